"""The learned denoiser: converter, evidence, transformer, and its place in the calculus."""

import json
import math
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from stochloc.core import (
    Ancestral,
    Autoregressive,
    Diffusion,
    ExactDenoiser,
    Follow,
    Masked,
    SimplexCodebook,
    State,
    bound,
    line_integral,
    observe,
    sample,
    start,
)
from stochloc.nn import Backbone, LocalizationModel, ModelConfig
from stochloc.nn.backbones import ARCHITECTURES
from stochloc.nn.backbones.encoder import Transformer, rotary_angles, rotate
from stochloc.nn.unfilled import unfilled
from stochloc.nn.vocabulary import convert

V = 6
CONFIGS = {
    "ours": ModelConfig(V, width=16, depth=2, heads=2, beta=1.0, rotary_base=100.0),
    "paper": ModelConfig(V, 16, 2, 2, code_dimension=4, evidence=False, unigram=False),
    "with a mask slot": ModelConfig(V, 16, 2, 2, mask_slot=True),
    **{name: ModelConfig(V, 16, 3, 2, neighbour_logit=8.0, architecture=name)
       for name in ARCHITECTURES},
}  # fmt: skip


def generator(seed):
    return torch.Generator().manual_seed(seed)


def trained(config):
    """A model whose every weight has been moved from its start."""
    torch.manual_seed(0)
    model = LocalizationModel(config)
    model.set_unigram(torch.tensor([5, 1, 9, 2, 2, 1]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(1)))
    return model.eval()


def noisy(model, rows=3, length=7):
    tokens = torch.randint(0, V, (rows, length), generator=generator(2))
    snr = 4 * torch.rand(rows, length, generator=generator(3))
    snr[:, 2], snr[:, 5] = math.inf, 0.0
    return tokens, observe(model.codebook, tokens, snr, generator(4))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_posterior_does_not_read_the_snr(name):
    model = trained(CONFIGS[name])
    _, state = noisy(model)
    other = State(state.z, state.known, torch.rand(state.snr.shape))
    assert torch.equal(model(state).log_probs, model(other).log_probs)


@pytest.mark.parametrize("name", CONFIGS)
def test_known_tokens_come_out_certain_and_their_z_is_ignored(name):
    model = trained(CONFIGS[name])
    tokens, state = noisy(model)
    posterior = model(state)
    assert (posterior.log_prob(tokens)[:, 2] == 0).all()
    z = state.z.clone()
    z[:, 2] = 7.0
    torch.testing.assert_close(
        model(State(z, state.known, state.snr)).log_probs, posterior.log_probs
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_unfilled_a_model_has_all_its_shapes_no_memory_and_draws_nothing(name):
    before = torch.get_rng_state()
    with unfilled():
        bare = LocalizationModel(CONFIGS[name])
    assert torch.equal(torch.get_rng_state(), before)
    values = LocalizationModel(CONFIGS[name]).state_dict()
    assert {key: value.shape for key, value in bare.state_dict().items()} == {
        key: value.shape for key, value in values.items()
    }
    assert all(parameter.is_meta for parameter in bare.parameters())


@pytest.mark.parametrize("path", [Masked(), Diffusion()], ids=["masked", "diffusion"])
def test_a_network_that_is_the_exact_denoiser_draws_bounds_and_integrates_as_it_does(path):
    """Untrained, with a unigram prior, a network is the posterior of independent tokens."""
    counts = torch.tensor([5, 1, 9, 2, 2, 1])
    model = LocalizationModel(CONFIGS["ours"])
    model.set_unigram(counts)
    log_p = ((counts + 1) / (counts + 1).sum()).log()
    sequences = torch.cartesian_prod(*[torch.arange(V)] * 3)
    exact = ExactDenoiser(SimplexCodebook(V), sequences, log_p[sequences].sum(-1))
    tokens = exact.sample(40, generator(1))
    walk = (Follow(path), Ancestral(), 6)
    drawn, expected = (
        sample(each, start(each.codebook, 40, 3), *walk, generator(2)).tokens
        for each in (model, exact)
    )
    assert torch.equal(drawn, expected)
    bounds = [bound(each, tokens, *walk, generator(3)).token_nats for each in (model, exact)]
    torch.testing.assert_close(*bounds, atol=1e-4, rtol=1e-4, check_dtype=False)
    integrals = [
        line_integral(each, tokens, path, 6, generator(4)).values for each in (model, exact)
    ]
    torch.testing.assert_close(*integrals, atol=1e-4, rtol=1e-4, check_dtype=False)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_probabilities_of_all_sequences_along_an_order_add_up_to_one(name):
    model = trained(CONFIGS[name])
    sequences = torch.cartesian_prod(*[torch.arange(V)] * 3)
    order = Follow(Autoregressive((1, 2, 0)))
    nats = bound(model, sequences, order, Ancestral(), 3, generator(0)).values
    assert float(nats.neg().exp().sum()) == pytest.approx(1, abs=1e-5)
    assert float(nats.std()) > 0.1, "a network that has moved prefers some sequences"


def test_an_untrained_model_is_the_exact_posterior_of_independent_tokens():
    model = LocalizationModel(CONFIGS["ours"])
    counts = torch.tensor([5, 1, 9, 2, 2, 1])
    model.set_unigram(counts)
    log_p = ((counts + 1) / (counts + 1).sum()).log()
    tokens, state = noisy(model)
    free = ~state.is_known
    expected = (state.z + log_p).log_softmax(-1)
    torch.testing.assert_close(model(state).log_probs[free], expected[free])
    nats = bound(model, tokens, Follow(Masked()), Ancestral(), 7, generator(0))
    torch.testing.assert_close(nats.token_nats.float(), -log_p[tokens])


def test_the_evidence_is_added_to_what_the_network_says_with_a_factor_of_one():
    with_evidence = trained(CONFIGS["ours"])
    config = ModelConfig(V, 16, 2, 2, beta=1.0, rotary_base=100.0, evidence=False)
    without = LocalizationModel(config)
    without.load_state_dict(with_evidence.state_dict())
    _, state = noisy(with_evidence)
    difference = with_evidence.readout(state).logits - without.readout(state).logits
    torch.testing.assert_close(difference, state.z)


def test_the_converter_gives_soft_masks_exact_rows_and_the_posterior_mean_between():
    codebook, rows = SimplexCodebook(3), torch.randn(3, 5, generator=generator(0))
    log_prior = torch.tensor([0.2, 0.5, 0.3]).log()
    z = torch.randn(1, 3, 3, generator=generator(1))
    z[0, 0] = 0
    known = torch.tensor([[-1, 2, -1]])
    out = convert(z, known, codebook, rows, torch.tensor(1.0), log_prior, None)[0]
    torch.testing.assert_close(out[0], log_prior.exp() @ rows)
    torch.testing.assert_close(out[1], rows[2])
    torch.testing.assert_close(out[2], (z[0, 2] + log_prior).softmax(-1) @ rows)


def test_the_mask_slot_takes_the_weight_when_the_evidence_is_weak():
    codebook, rows = SimplexCodebook(3), torch.eye(4)
    z = torch.zeros(1, 2, 3)
    z[0, 1, 0] = 12.0
    prior = torch.full((3,), 1 / 3).log()
    unknown = torch.full((1, 2), -1)
    out = convert(z, unknown, codebook, rows, torch.tensor(1.0), prior, torch.tensor([1.0]))[0]
    assert out[0, 3] > 0.7
    assert out[1, 3] < 1e-3
    known = convert(z, torch.zeros(1, 2).long(), codebook, rows, torch.tensor(1.0), prior,
                    torch.tensor([9.0]))[0]  # fmt: skip
    assert torch.equal(known, torch.eye(4)[[0, 0]])


def test_the_transformer_equals_one_written_out_with_sums_and_softmaxes():
    torch.manual_seed(0)
    width, heads, length = 16, 2, 5
    network = Transformer(width, 2, heads, 100.0).double()
    x = torch.randn(3, length, width, dtype=torch.float64, generator=generator(1))
    h = x
    for block in network.blocks:
        a = F.layer_norm(h, (width,), block.attention_norm.weight)
        q, k, v = (block.qkv.weight @ a.transpose(1, 2)).transpose(1, 2).chunk(3, -1)
        mixed = torch.zeros_like(h)
        for head in range(heads):
            own = slice(head * 8, head * 8 + 8)
            for t in range(length):
                turn = rotary_angles(length, 8, 100.0, x.device).double()
                qt = turned(q[:, t, own], turn[t])
                scores = torch.stack(
                    [(qt * turned(k[:, s, own], turn[s])).sum(-1) for s in range(length)], -1
                )
                mixed[:, t, own] = torch.einsum(
                    "bs,bsd->bd", (scores / math.sqrt(8)).softmax(-1), v[..., own]
                )
        h = h + mixed @ block.attention_out.weight.T
        m = F.layer_norm(h, (width,), block.mlp_norm.weight) @ block.mlp_in.weight.T
        h = h + m.clamp(min=0).square() @ block.mlp_out.weight.T
    expected = F.layer_norm(h, (width,), network.norm.weight)
    # The rotation itself is done in float32.
    torch.testing.assert_close(network(x), expected, atol=2e-6, rtol=0)


def turned(x, angles):
    a, b = x[:, 0::2], x[:, 1::2]
    pairs = [a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()]
    return torch.stack(pairs, -1).flatten(-2)


def test_rotated_products_depend_on_the_distance_alone():
    angles = rotary_angles(20, 8, 100.0, torch.device("cpu"))
    q, k = torch.randn(2, 8, generator=generator(0))
    products = rotate(q.expand(20, 8), angles) @ rotate(k.expand(20, 8), angles).T
    for offset in (-3, 0, 5):
        along = products.diagonal(offset)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=0)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="no multiple"):
        ModelConfig(5, width=18, heads=4)
    with pytest.raises(ValueError, match="positive depth"):
        ModelConfig(5, depth=0)


@pytest.mark.parametrize(
    "positions",
    [{"rotary_base": 0.5}, {"neighbour_logit": -1.0}, {"neighbour_logit": float("inf")}],
)
def test_a_model_and_a_method_refuse_the_same_positions(positions):
    for make in (partial(ModelConfig, 5), Backbone):
        with pytest.raises(ValueError, match=r"base of at least 1|must be at least 0"):
            make(**positions)


def test_a_model_has_the_backbone_that_its_flat_configuration_describes():
    config = ModelConfig(5, 16, 3, 2, rotary_base=50.0, neighbour_logit=2.0)
    assert config.backbone == Backbone(16, 3, 2, rotary_base=50.0, neighbour_logit=2.0)
    ours, alone = LocalizationModel(config).transformer, config.backbone.transformer()
    assert {n: p.shape for n, p in ours.named_parameters()} == {
        n: p.shape for n, p in alone.named_parameters()
    }


def test_rows_of_a_batch_do_not_see_each_other_and_tokens_see_both_sides():
    model = trained(CONFIGS["ours"])
    _, state = noisy(model)
    first = State(state.z[:1], state.known[:1], state.snr[:1])
    torch.testing.assert_close(model(state).log_probs[:1], model(first).log_probs)
    z = state.z.clone().requires_grad_()
    model.readout(State(z, state.known, state.snr)).logits[0, 3].sum().backward()
    moved = z.grad.abs().sum(-1)[0]
    assert (moved[[0, 1, 3, 4, 5, 6]] > 0).all()
    assert moved[2] == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_receives_a_gradient(name):
    model = trained(CONFIGS[name])
    tokens, _ = noisy(model)
    snr = torch.rand(tokens.shape, generator=generator(5)) * 3
    model.token_nats(tokens, snr, None, generator(6)).nats.sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_half_precision_gives_finite_numbers_near_the_full_ones():
    model = trained(CONFIGS["ours"])
    _, state = noisy(model)
    full = model(state).probs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(state).probs
    torch.testing.assert_close(half, full, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_model_loads_bit_for_bit_and_silently(name, tmp_path, capsys):
    model = trained(CONFIGS[name])
    model.save_pretrained(tmp_path)
    loaded = LocalizationModel.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert model.state_dict().keys() == loaded.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert json.loads((tmp_path / "config.json").read_text())["vocabulary_size"] == V
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", ["missing", "unexpected", "misshaped"])
def test_weights_that_do_not_fit_are_an_error(damage, tmp_path):
    trained(CONFIGS["ours"]).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    if damage == "missing":
        del weights["beta"]
    elif damage == "unexpected":
        weights["gamma"] = torch.ones(1)
    else:
        weights["head"] = torch.ones(2, 2)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="shape"):
        LocalizationModel.from_pretrained(tmp_path)
