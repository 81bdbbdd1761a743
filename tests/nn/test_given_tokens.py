"""Tokens that are only ever given: boundaries and labels, the last of the vocabulary."""

import json
import math
from dataclasses import replace

import pytest
import torch
from core.worlds import ADAPTIVE

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    BlockedPosterior,
    Constrained,
    Diffusion,
    Euler,
    Follow,
    Guided,
    Linearised,
    Masked,
    Nucleus,
    Tempered,
    Unconditional,
    bound,
    left_to_right,
    line_integral,
    observe,
    sample,
    sample_left_to_right,
    start,
)
from stochloc.nn import DIT, ENCODER, TWO_SIDED, LocalizationModel, ModelConfig
from stochloc.nn.vocabulary import convert

TEXT, GIVEN = 4, 3
V, BOUNDARY = TEXT + GIVEN, TEXT
LOOKING = ModelConfig(V, 16, 2, 2, beta=1.0, neighbour_logit=3.0, given_tokens=GIVEN)
CONFIGS = {
    ENCODER: LOOKING,
    TWO_SIDED: replace(LOOKING, depth=3, architecture=TWO_SIDED),
    DIT: replace(LOOKING, architecture=DIT),
    "learned": replace(LOOKING, code_dimension=3, architecture=TWO_SIDED),
    "paper": ModelConfig(V, 16, 2, 2, 4, evidence=False, unigram=False, given_tokens=GIVEN),
    "slot and bias": replace(LOOKING, mask_slot=True, head_bias=True),
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def shaken(config):
    torch.manual_seed(0)
    model = LocalizationModel(config)
    model.set_unigram(torch.tensor([5, 1, 9, 2, 400, 50, 50]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator(1)))
    return model.eval()


def sequences(rows=3, length=5):
    """Texts between boundaries, behind a label."""
    text = torch.randint(0, TEXT, (rows, length), generator=generator(2))
    ends = torch.full((rows, 1), BOUNDARY)
    return torch.cat([torch.full((rows, 1), BOUNDARY + 1), ends, text, ends], 1)


def given(tokens):
    return tokens.masked_fill(tokens < TEXT, UNKNOWN)


def noisy(model, snr=2.0, hidden=False):
    """The states of sequences, with the label hidden or known."""
    tokens = sequences()
    gamma = torch.full(tokens.shape, snr).masked_fill(tokens >= TEXT, torch.inf)
    gamma[:, 3] = 0.0
    if hidden:
        gamma[:, 0] = 0.0
    return tokens, observe(model.codebook, tokens, gamma, generator(3))


class InBlocks:
    """A model whose posteriors are read in blocks, the last of which holds given tokens alone."""

    def __init__(self, model):
        self.model, self.codebook = model, model.codebook

    def __call__(self, state):
        posterior = replace(self.model.readout(state), block_size=2).posterior
        assert isinstance(posterior, BlockedPosterior)
        return posterior


def probabilities(posterior):
    """All of them, in the blocks in which the posterior itself reads its scores."""
    size = posterior.block_size if isinstance(posterior, BlockedPosterior) else V
    blocks = [posterior.log_probs_of(n, min(n + size, V)) for n in range(0, V, size)]
    return torch.cat(blocks, -1).exp()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_unknown_tokens_are_never_given_ones_and_every_question_has_a_number(
    name, hidden, in_blocks
):
    model = shaken(CONFIGS[name])
    denoiser = InBlocks(model) if in_blocks else model
    tokens, state = noisy(model, hidden=hidden)
    with torch.no_grad():
        plain = denoiser(state)
        other = denoiser(state.forget(torch.ones_like(state.is_known)))
        free = ~state.is_known
        weights = torch.zeros(*tokens.shape, V).masked_fill(torch.arange(V) == 1, -torch.inf)
        variants = (
            plain, plain.tempered(0.3), plain.tempered(1e-30), plain.nucleus(0.7),
            plain.nucleus(1.0), plain.guided(other, 1.7), plain.guided(other, 0.0),
            plain.observed(state), plain.cropped(0, tokens.shape[1]),
        )  # fmt: skip
        for posterior in variants:
            probs = probabilities(posterior)
            torch.testing.assert_close(probs.sum(-1), torch.ones(tokens.shape))
            assert (probs[free][:, TEXT:] == 0).all()
            text = tokens.clamp(max=TEXT - 1)
            step = 0.1 * torch.randn(state.z.shape, generator=generator(4))
            for answer in (posterior.entropy, posterior.mean, posterior.confidence,
                           posterior.uncertainty):  # fmt: skip
                assert answer.isfinite().all()
            assert posterior.log_mgf(step, tokens)[~free].isfinite().all()
            assert posterior.log_mgf(step, text)[free].isfinite().all()
            assert (posterior.mode[free] < TEXT).all()
            levels = torch.full(tokens.shape, 1 - 2**-24, dtype=torch.float64)
            assert (posterior.quantile(levels)[free] < TEXT).all()
            assert (posterior.sample(generator(5))[free] < TEXT).all()
        ruled_out = probabilities(plain.reweighted(weights))[free]
        assert (ruled_out[:, TEXT:] == 0).all()
        assert (ruled_out[:, 1] == 0).all()


PLAIN = {"diffusion": Follow(Diffusion()), "masked": Follow(Masked()),
         "left to right": Follow(Autoregressive())}  # fmt: skip


@pytest.mark.bulk
@pytest.mark.parametrize("name", [
    name if name in ("encoder", "two-sided") else pytest.param(name, marks=pytest.mark.slow)
    for name in CONFIGS
])  # fmt: skip
@pytest.mark.parametrize("transition", [Ancestral(), Euler()], ids=["ancestral", "euler"])
def test_no_walk_ends_in_a_given_token_that_was_not_given(name, transition):
    model = shaken(CONFIGS[name])
    tokens = sequences(2)
    known, free = given(tokens), tokens < TEXT
    label = tokens == BOUNDARY + 1
    allowed = torch.ones(tokens.shape[1], V, dtype=torch.bool)
    allowed[3, 2:TEXT] = False
    guided = Guided(model, Unconditional(model, label), 1.5)
    hot = (model, InBlocks(model), Tempered(model, 2.5), Nucleus(model, 0.9), guided,
           Constrained(model, allowed))  # fmt: skip
    walks = [(model, policy) for policy in ADAPTIVE.values()]
    walks += [(denoiser, policy) for denoiser in hot for policy in PLAIN.values()]
    for denoiser, policy in walks:
        state = start(model.codebook, *tokens.shape, known=known)
        drawn = sample(denoiser, state, policy, transition, 5, generator(6)).tokens
        assert torch.equal(drawn[~free], tokens[~free])
        assert (drawn[free] < TEXT).all()
    free_label = start(model.codebook, *tokens.shape, known=known.masked_fill(label, UNKNOWN))
    drawn = sample(model, free_label, PLAIN["masked"], transition, 5, generator(6)).tokens
    assert (drawn[:, 0] < TEXT).all(), "even a hidden label is never drawn"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_probabilities_of_all_texts_between_boundaries_add_up_to_one(name):
    model = shaken(CONFIGS[name])
    texts = torch.cartesian_prod(*[torch.arange(TEXT)] * 3)
    ends = torch.full((len(texts), 1), BOUNDARY)
    tokens = torch.cat([ends, texts, ends], 1)
    for estimate in (
        bound(model, tokens, Follow(Autoregressive((2, 1, 0, 4, 3))), Ancestral(), 3, generator(0),
              given(tokens)),
        left_to_right(model, tokens, given(tokens)),
    ):  # fmt: skip
        assert float(estimate.values.neg().exp().sum()) == pytest.approx(1, abs=1e-5)
        assert (estimate.token_nats[:, [0, 4]] == 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_bounds_integrals_and_drafts_of_sequences_are_numbers(name):
    model = shaken(CONFIGS[name])
    tokens = sequences()
    for transition in (Ancestral(), Euler()):
        walk = (Follow(Diffusion()), transition, 5)
        assert bound(model, tokens, *walk, generator(0), given(tokens)).values.isfinite().all()
    integral = line_integral(model, tokens, Masked(), 4, generator(1), given(tokens))
    assert integral.values.isfinite().all()
    drawn = sample_left_to_right(
        model, start(model.codebook, *tokens.shape, known=given(tokens)), generator(2)
    )
    assert torch.equal(given(drawn.tokens), given(tokens))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("in_blocks", [False, True])
def test_the_derivative_along_a_direction_is_the_difference_quotient(name, in_blocks):
    model = shaken(CONFIGS[name]).double().requires_grad_(False)
    denoiser = InBlocks(model) if in_blocks else model
    _, state = noisy(model)
    direction = torch.randn(state.z.shape, generator=generator(4), dtype=torch.float64)
    direction = direction * ~state.is_known[..., None]
    tangent = Linearised(denoiser).derivative(state, direction)
    h = 2e-3  # Rotations are made in float32.
    ends = [denoiser(replace(state, z=state.z + s * h * direction)).mean for s in (1, -1)]
    torch.testing.assert_close(tangent, (ends[0] - ends[1]) / (2 * h), atol=2e-3, rtol=1e-2)
    assert float(tangent.norm()) > 0.01


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("in_chunks", [False, True])
def test_given_tokens_are_no_targets_and_all_gradients_are_numbers(name, in_chunks, monkeypatch):
    if in_chunks:
        monkeypatch.setattr("stochloc.nn.vocabulary.SMALL", 2)
    model = shaken(CONFIGS[name])
    tokens = sequences()
    snr = torch.tensor([0.0, math.inf, 0.0, 1.0, 1e4, math.inf, 2.0, math.inf]).expand(3, -1)
    nats, is_target = model.token_nats(tokens, snr, None, generator(0))
    all_texts = [False, False, True, True, True, model.between is not None, True, False]
    assert is_target.tolist() == [all_texts] * 3
    assert (nats[~is_target] == 0).all()
    assert (nats[is_target] > 0).any()
    nats.sum().backward()
    gradients = {each: p.grad for each, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == dict(model.named_parameters()).keys()
    for each, gradient in gradients.items():
        assert gradient.isfinite().all(), each
        assert gradient.abs().sum() > 0, each
    assert (gradients["head"][TEXT:] == 0).all()
    assert (gradients["embeddings"][[BOUNDARY, BOUNDARY + 2]].abs().sum(-1) > 0).tolist() == [
        True, False
    ]  # fmt: skip


def test_a_given_token_enters_by_its_own_row_and_by_no_other():
    model = shaken(LOOKING)
    _, state = noisy(model, hidden=True)
    rows = model.embeddings.detach()
    out = convert(state.z, state.known, model.codebook, rows, model.beta, model.log_prior, None)
    assert torch.equal(out[:, 1], rows[BOUNDARY].expand(3, -1))
    moved = rows.clone()
    moved[TEXT:] += 100.0
    again = convert(state.z, state.known, model.codebook, moved, model.beta, model.log_prior, None)
    assert torch.equal(again[~state.is_known], out[~state.is_known])


def test_an_untrained_model_ignores_how_often_given_tokens_occur():
    model = LocalizationModel(LOOKING)
    model.set_unigram(torch.tensor([5, 1, 9, 2, 400, 50, 50]))
    nothing = model(start(model.codebook, 1, 2)).probs[0, 0]
    expected = torch.tensor([6.0, 2.0, 10.0, 3.0, 0.0, 0.0, 0.0]) / 21
    torch.testing.assert_close(nothing, expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_saved_with_finite_numbers_and_loads_as_it_was(name, tmp_path):
    model = shaken(CONFIGS[name])
    model.save_pretrained(tmp_path)
    loaded = LocalizationModel.from_pretrained(tmp_path)
    assert loaded.config.given_tokens == GIVEN
    assert torch.equal(loaded.log_prior, model.log_prior)


def test_a_configuration_from_before_there_were_given_tokens_has_none(tmp_path):
    model = LocalizationModel(ModelConfig(V, 16, 1, 2))
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    del values["given_tokens"]
    path.write_text(json.dumps(values))
    loaded = LocalizationModel.from_pretrained(tmp_path)
    assert loaded.config.given_tokens == 0
    assert loaded.log_prior is loaded.log_unigram


def test_some_token_must_be_left_to_predict():
    for given_tokens in (-1, V):
        with pytest.raises(ValueError, match="only ever given"):
            ModelConfig(V, given_tokens=given_tokens)
