"""An imported MDLM is the original: its logits, its bound, all of its weights."""

from itertools import permutations, product

import pytest
import torch
from importers.mdlm_layout import MASK, V, random_checkpoint, reference_logits
from safetensors.torch import save_file

from stochloc.core import Ancestral, Follow, Masked, State, bound, line_integral, start
from stochloc.importers import Told
from stochloc.importers.files import opened_checkpoint
from stochloc.importers.mdlm import Mdlm
from stochloc.methods.mdlm import Mdlm as MdlmMethod
from stochloc.nn import LocalizationModel
from stochloc.nn.vocabulary import convert

LENGTH = 4
TOLD = Told(heads=2, length=LENGTH)


def converted(folder, weights, told=TOLD):
    """The localization model of a checkpoint, through a file."""
    save_file(weights, folder / "model.safetensors")
    with opened_checkpoint(str(folder)) as checkpoint:
        imported = Mdlm().convert(checkpoint, told)
    model = LocalizationModel(imported.config)
    model.load_state_dict(imported.weights)
    return model.eval()


def masked_state(model, inputs):
    """The state in which masks know nothing and all other tokens are known."""
    known = inputs.masked_fill(inputs == MASK, -1)
    return start(model.codebook, *inputs.shape, known)


def without(weights, name):
    return {one: value for one, value in weights.items() if one != name}


@pytest.mark.parametrize(("heads", "depth", "waves"), [(2, 2, 10), (1, 1, 10), (4, 3, 5)])
def test_on_masked_input_the_logits_are_those_of_the_original(tmp_path, heads, depth, waves):
    weights = random_checkpoint(heads=heads, depth=depth, waves=waves)
    model = converted(tmp_path, weights, Told(length=LENGTH))
    inputs = torch.randint(0, V, (32, 9), generator=torch.Generator().manual_seed(1))
    inputs[torch.rand(inputs.shape, generator=torch.Generator().manual_seed(2)) < 0.5] = MASK
    with torch.no_grad():
        logits = model.readout(masked_state(model, inputs)).logits
    expected = reference_logits(weights, inputs, heads)[..., :V]
    assert expected.std() > 0.5
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_at_zero_snr_the_converter_gives_the_mask_and_of_known_tokens_their_rows(tmp_path):
    weights = random_checkpoint()
    model = converted(tmp_path, weights)
    rows = torch.arange(V + 1)[None]
    state = masked_state(model, rows)
    embedded = convert(state.z, state.known, model.codebook, model.embeddings, model.beta,
                       model.log_unigram, model.slot)[0]  # fmt: skip
    table = weights["backbone.vocab_embed.embedding"]
    assert torch.equal(embedded[:V], table[:V])
    torch.testing.assert_close(embedded[V], table[V], atol=1e-7, rtol=1e-7)


def test_evidence_that_outweighs_the_mask_gives_the_token_itself(tmp_path):
    model = converted(tmp_path, random_checkpoint())
    nothing = torch.full((1, V), -1)
    for evidence, row in ((1.0, torch.full((V,), V)), (80.0, torch.arange(V))):
        state = State(evidence * torch.eye(V)[None], nothing, torch.full((1, V), evidence))
        embedded = convert(state.z, state.known, model.codebook, model.embeddings, model.beta,
                           model.log_unigram, model.slot)[0]  # fmt: skip
        torch.testing.assert_close(embedded, model.embeddings[row], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(random_checkpoint()))
def test_every_tensor_is_needed_and_every_one_but_the_rotation_changes_the_logits(tmp_path, name):
    weights = random_checkpoint()
    if "rotary" in name:
        # It holds no free value: without it the model is the same, with another it is refused.
        model = converted(tmp_path, without(weights, name))
        assert torch.equal(model.head, converted(tmp_path, weights).head)
        with pytest.raises(ValueError, match="rotations that are not those of MDLM"):
            converted(tmp_path, {**weights, name: 2 * weights[name]})
        return
    inputs = torch.tensor([[MASK, 1, 2, MASK], [0, MASK, 3, 4]])
    noise = 0.1 * torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(5))
    logits = []
    for own in (weights, {**weights, name: weights[name] + noise}):
        model = converted(tmp_path, own)
        logits.append(model.readout(masked_state(model, inputs)).logits.log_softmax(-1))
    assert (logits[1] - logits[0]).abs().max() > 1e-4
    with pytest.raises(ValueError, match=f"MDLM's layout: {name.removeprefix('backbone.')} is"):
        converted(tmp_path, without(weights, name))


@pytest.mark.parametrize(("change", "sentence"), [
    ({"backbone.blocks.0.norm3.weight": torch.ones(16)}, "blocks.0.norm3.weight is unknown there"),
    ({"backbone.blocks.7.norm1.weight": torch.ones(16)}, "blocks.[27].* is missing"),
    ({"other": torch.ones(1)}, "vocab_embed.embedding is missing or no matrix"),
    ({"backbone.blocks.1.mlp.0.bias": torch.ones(3)},
     r"blocks.1.mlp.0.bias has shape \(3,\) in place of \(64,\)"),
])  # fmt: skip
def test_what_is_not_of_the_layout_is_refused_by_the_name_of_the_tensor(tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        converted(tmp_path, {**random_checkpoint(), **change})


def test_heads_and_length_are_asked_for_where_nothing_tells_them(tmp_path):
    weights = without(random_checkpoint(), "backbone.rotary_emb.inv_freq")
    with pytest.raises(ValueError, match="how many attention heads it has; give --heads"):
        converted(tmp_path, weights, Told(length=4))
    with pytest.raises(ValueError, match="how many tokens a window has; give --length"):
        converted(tmp_path, weights, Told(heads=2))
    (tmp_path / "config.json").write_text('{"n_heads": 4, "model_length": 8}', encoding="utf-8")
    assert converted(tmp_path, weights, Told()).config.heads == 4
    for facts, sentence in (
        ('{"n_heads": 0}', "n_heads in the config.json .* positive whole number"),
        ('{"n_heads": 5, "model_length": 8}', "no multiple of twice the 5 heads"),
        ('{"time_conditioning": true}', "conditioned on the time"),
        ("[", "is damaged"),
        ("[]", "is not a JSON object"),
    ):
        (tmp_path / "config.json").write_text(facts, encoding="utf-8")
        with pytest.raises(ValueError, match=sentence):
            converted(tmp_path, weights, Told(length=4))


def mean_over_orders(network, tokens):
    """The bound of masked diffusion: the mean over orders of all chain rules, by enumeration."""
    costs = {}
    for revealed in product([False, True], repeat=LENGTH):
        inputs = tokens.masked_fill(~torch.tensor(revealed), MASK)
        nats = -network(inputs, None).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        costs[revealed] = nats.double()
    totals = []
    for order in permutations(range(LENGTH)):
        seen = [{*order[:n]} for n in range(LENGTH)]
        keys = [tuple(place in known for place in range(LENGTH)) for known in seen]
        totals.append(sum(costs[key][:, place] for key, place in zip(keys, order, strict=True)))
    return torch.stack(totals).mean(0)


@pytest.mark.bulk
def test_on_the_masked_path_its_bound_is_that_of_the_method_with_the_same_weights(tmp_path):
    """Six standard errors: a false alarm in 1e-9 runs. A checkpoint with another embedding of the
    mask is told apart, which the last assertion proves."""
    weights = random_checkpoint()
    model = converted(tmp_path, weights)
    tokens = torch.tensor([[3, 1, 4, 0]])

    def network(inputs, time):
        return reference_logits(weights, inputs, 2)[..., :V]

    exact = float(mean_over_orders(network, tokens))
    many = tokens.expand(3000, -1).contiguous()
    walk = (Follow(Masked()), Ancestral(), LENGTH, torch.Generator().manual_seed(2))
    walked = bound(model, many, *walk)
    own = line_integral(model, many, Masked(), 16, torch.Generator().manual_seed(3))
    theirs = MdlmMethod(network, V).bound(many, 16, torch.Generator().manual_seed(4))
    for estimate in (walked, own, theirs):
        assert abs(float(estimate.mean) - exact) < 6 * float(estimate.stderr)
    other = {**weights, "backbone.vocab_embed.embedding": weights["backbone.vocab_embed.embedding"]
             * (torch.arange(V + 1) < V)[:, None]}  # fmt: skip
    wrong = float(
        mean_over_orders(lambda inputs, time: reference_logits(other, inputs, 2)[..., :V], tokens)
    )
    for estimate in (walked, own, theirs):
        assert abs(float(estimate.mean) - wrong) > 12 * float(estimate.stderr)
