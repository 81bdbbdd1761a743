"""No NaN, no infinity, no silent overflow: extreme SNRs, lengths, batches, vocabularies, types."""

import math

import pytest
import torch
from core.worlds import BOUNDED, CORRECTED, PATHS, TRANSITIONS, WORLDS, generator

from stochloc.core import (
    Custom,
    Diffusion,
    ExactDenoiser,
    Follow,
    Geometric,
    Lomax,
    Path,
    Policy,
    SimplexCodebook,
    bound,
    channel,
    line_integral,
    observe,
    sample,
    start,
)
from stochloc.core.numerics import draw_categorical
from stochloc.nn import LocalizationModel, ModelConfig

pytestmark = pytest.mark.bulk

SNRS = [0.0, 1e-30, 1e-6, 1.0, 1e3, 1e6, math.inf]
EXTREME_PATHS: dict[str, Path] = {
    "custom to 1e6": Custom(torch.tensor([0.0, 1e-9, 1e-3, 1.0, 1e3, 1e6, math.inf])),
    "geometric to 1e6": Diffusion(Geometric(1e6)),
    "lomax to 1e6": Diffusion(Lomax(snr_max=1e6)),
}
POLICIES: dict[str, Policy] = {
    **{name: Follow(path) for name, path in {**PATHS, **EXTREME_PATHS}.items()}, **BOUNDED,
}  # fmt: skip
SIZES = [1, 2, 50_000]


def model_of(size: int, **choices: float) -> LocalizationModel:
    """A model whose output is not 0, of the smallest width there is."""
    torch.manual_seed(0)
    model = LocalizationModel(ModelConfig(size, width=8, depth=1, heads=2, **choices))
    torch.nn.init.normal_(model.head)
    model.set_unigram(torch.arange(size))
    return model


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("code_dimension", [0, 5])
@pytest.mark.parametrize("snr", SNRS)
def test_a_model_is_finite_and_normalised_and_so_is_its_gradient(size, code_dimension, snr):
    model = model_of(size, code_dimension=code_dimension)
    tokens = torch.randint(size, (2, 3), generator=generator(0))
    levels = torch.full(tokens.shape, snr)
    posterior = model(observe(model.codebook, tokens, levels, generator(1)))
    total = posterior.log_probs_of(0, size).double().exp().sum(-1)
    assert ((total - 1).abs() < 1e-4).all()
    for values in (posterior.mean, posterior.entropy, posterior.uncertainty):
        assert values.isfinite().all()
    model.token_nats(tokens, levels, None, generator(1)).nats.sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("size", SIZES)
def test_a_model_of_any_vocabulary_samples_bounds_and_integrates(size):
    model = model_of(size)
    tokens = torch.randint(size, (2, 3), generator=generator(0))
    for path in (PATHS["masked"], PATHS["diffusion, lomax"], EXTREME_PATHS["geometric to 1e6"]):
        for transition in TRANSITIONS.values():
            policy, free = Follow(path), start(model.codebook, 2, 3)
            drawn = sample(model, free, policy, transition, 3, generator(1)).tokens
            assert ((drawn >= 0) & (drawn < size)).all()
            nats = bound(model, tokens, policy, transition, 3, generator(2)).token_nats
            assert nats.isfinite().all()
            if size == 1:
                assert nats.abs().max() < 1e-4
        assert line_integral(model, tokens, path, 3, generator(3)).token_nats.isfinite().all()


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("policy", [*POLICIES, *CORRECTED])
@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("length", [1, 4])
def test_every_policy_walks_one_token_and_a_batch_of_none(policy, transition, batch, length):
    rule, step = {**POLICIES, **CORRECTED}[policy], TRANSITIONS[transition]
    sequences = torch.cartesian_prod(*[torch.arange(3)] * length).view(-1, length)
    weights = torch.randn(len(sequences), generator=generator(5), dtype=torch.float64)
    denoiser = ExactDenoiser(SimplexCodebook(3).double(), sequences, weights)
    tokens = denoiser.sample(batch, generator(0))
    drawn = sample(denoiser, start(denoiser.codebook, batch, length), rule, step, 6, generator(1))
    assert drawn.tokens.shape == (batch, length)
    assert (drawn.denoiser_calls > 0) == (batch > 0)
    assert ((drawn.tokens >= 0) & (drawn.tokens < 3)).all()
    if policy in CORRECTED:
        return
    nats = bound(denoiser, tokens, rule, step, 6, generator(2)).token_nats
    assert nats.shape == (batch, length)
    assert nats.isfinite().all()


@pytest.mark.parametrize("name", {**PATHS, **EXTREME_PATHS})
def test_every_path_is_integrated_for_one_token_and_a_batch_of_none(name):
    path = {**PATHS, **EXTREME_PATHS}[name]
    denoiser = ExactDenoiser(SimplexCodebook(3).double(), torch.arange(3)[:, None])
    for batch in (0, 1):
        tokens = denoiser.sample(batch, generator(0))
        nats = line_integral(denoiser, tokens, path, 5, generator(1)).token_nats
        assert nats.shape == (batch, 1)
        assert nats.isfinite().all()


@pytest.mark.bulk
@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("policy", POLICIES)
def test_the_bound_in_float32_is_that_in_float64_on_every_walk(policy, transition, monkeypatch):
    # The same noise for both, rounded for one of them.
    monkeypatch.setattr(
        channel, "draw_normal_like",
        lambda z, source: torch.randn(z.shape, generator=source, dtype=torch.float64).to(z),
    )  # fmt: skip
    exact = WORLDS["markov chain"].denoiser
    tokens = exact.sample(40, generator(0))
    double, single = (
        bound(
            ExactDenoiser(SimplexCodebook(3).to(dtype), exact.sequences, exact.log_prior),
            tokens, POLICIES[policy], TRANSITIONS[transition], 6, generator(1),
        ).values
        for dtype in (torch.float64, torch.float32)
    )  # fmt: skip
    # A choice that hangs on the last bit may fall otherwise, in few sequences.
    near = (double - single).abs() < 1e-3 * (1 + double.abs())
    assert near.double().mean() > 0.9
    assert abs(float((double - single)[near].mean())) < 1e-4 * (1 + float(double.abs().mean()))


def test_rare_tokens_come_as_often_as_they_should_in_ten_million_draws():
    # Poisson or normal tails below 1e-7 each.
    rare = torch.tensor([1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3], dtype=torch.float64)
    probs = torch.cat([rare, (1 - rare.sum())[None]])
    counts, source = torch.zeros(8), generator(0)
    for _ in range(20):
        counts += draw_categorical(probs.expand(500_000, -1), source).bincount(minlength=8)
    assert counts.sum() == 10_000_000
    for count, expected in zip(counts[:7].tolist(), (rare * 1e7).tolist(), strict=True):
        slack = 5.5 * math.sqrt(expected) + 4
        assert abs(count - expected) < slack, (count, expected)
