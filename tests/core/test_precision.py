"""Low precision, extreme signal-to-noise ratios, rare tokens and large vocabularies."""

import math

import pytest
import torch
from core.worlds import WORLDS, generator

from stochloc.core import (
    Ancestral,
    CircleCodebook,
    Codebook,
    Diffusion,
    Euler,
    ExactDenoiser,
    Follow,
    LearnedCodebook,
    Masked,
    SimplexCodebook,
    State,
    Tempered,
    bound,
    line_integral,
    numerics,
    observe,
    start,
)
from stochloc.core.numerics import draw_categorical, draw_stratified

EXTREMES = [0.0, 1e-8, 1.0, 1e4, math.inf]


def markov_denoiser(codebook: Codebook) -> ExactDenoiser:
    exact = WORLDS["markov chain"].denoiser
    return ExactDenoiser(codebook, exact.sequences, exact.log_prior)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("snr", EXTREMES)
def test_the_posterior_is_finite_and_normalised_at_every_snr_and_type(snr, dtype):
    denoiser = markov_denoiser(SimplexCodebook(3).to(dtype))
    tokens = denoiser.sample(50, generator(0))
    gamma = torch.full(tokens.shape, snr, dtype=dtype)
    state = observe(denoiser.codebook, tokens, gamma, generator(1))
    # Codes keep float32 where weights are kept in less: bfloat16 leaves the sphere.
    assert state.z.dtype == torch.promote_types(dtype, torch.float32)
    posterior = denoiser(state)
    tolerance = 8 * float(torch.finfo(dtype).eps)
    assert ((posterior.probs.double().sum(-1) - 1).abs() < tolerance).all()
    assert posterior.mean.isfinite().all()
    assert posterior.entropy.isfinite().all()
    assert ((posterior.sample(generator(2)) >= 0) & (posterior.sample(generator(2)) < 3)).all()
    if snr >= 1e4:
        assert torch.equal(posterior.mode, tokens)
        assert (posterior.confidence > 1 - tolerance).all()
    if snr == 0.0:
        assert torch.equal(posterior.mean, posterior.mean[:1].expand_as(posterior.mean))


@pytest.mark.parametrize("snr", [0.0, 1e-8, 1.0, 30.0])
def test_float32_agrees_with_float64_on_the_same_state(snr):
    double, single = (
        markov_denoiser(SimplexCodebook(3).to(t)) for t in (torch.float64, torch.float32)
    )
    tokens = double.sample(200, generator(0))
    gamma = torch.full(tokens.shape, snr, dtype=torch.float64)
    state = observe(double.codebook, tokens, gamma, generator(1))
    rounded = State(state.z.float(), state.known, state.snr.float())
    torch.testing.assert_close(
        double(state).probs.float(), single(rounded).probs, atol=3e-5, rtol=0
    )


@pytest.mark.parametrize("snr", EXTREMES)
@pytest.mark.parametrize("transition", [Euler(), Ancestral()])
def test_a_step_of_every_size_has_a_finite_cost_and_a_finite_result(snr, transition):
    denoiser = WORLDS["full support"].denoiser
    tokens = denoiser.sequences
    before = start(denoiser.codebook, *tokens.shape)
    posterior = denoiser(before)
    dsnr = torch.full(tokens.shape, snr, dtype=torch.float64)
    after = observe(denoiser.codebook, tokens, dsnr, generator(0))
    cost = transition.cost(before, after, posterior, tokens)
    assert cost.isfinite().all()
    assert transition.step(before, posterior, dsnr, generator(1)).z.isfinite().all()
    if snr == 1e4 and isinstance(transition, Ancestral):
        # So long a step all but decides the token: its cost has become -log Q.
        torch.testing.assert_close(cost, -posterior.log_prob(tokens), atol=1e-9, rtol=0)


def test_the_bound_in_float32_is_that_in_float64_up_to_rounding():
    # Masked walks draw no normal noise, so both types walk through the same states.
    estimates = [
        bound(
            markov_denoiser(SimplexCodebook(3).to(dtype)),
            WORLDS["markov chain"].denoiser.sequences,
            Follow(Masked()),
            Euler(),
            4,
            generator(1),
        )
        for dtype in (torch.float64, torch.float32)
    ]
    assert estimates[1].token_nats.dtype == torch.float64
    torch.testing.assert_close(estimates[0].values, estimates[1].values, atol=1e-4, rtol=1e-5)


def test_the_line_integral_in_float32_is_minus_log_p():
    # 1,500 sequences of standard deviation about 1: 4.5 errors are 0.1, a lost half would be 1.4.
    denoiser = markov_denoiser(SimplexCodebook(3))
    tokens = denoiser.sample(1500, generator(1))
    estimate = line_integral(denoiser, tokens, Diffusion(), 24, generator(2))
    gap = estimate.values + denoiser.log_prob(tokens)
    assert abs(float(gap.mean())) < 4.5 * float(gap.std()) / math.sqrt(len(gap))


def test_a_categorical_draw_is_the_inverse_of_the_cumulative_sum_to_the_last_bit(monkeypatch):
    """The uniforms are chosen by hand: draws are deterministic, and each is known."""
    rare = 2.0**-30
    weights = torch.tensor([0.0, 1 - 2 * rare, rare, 0.0, rare, 0.0], dtype=torch.float64)
    chosen = {
        0.0: 1,
        0.5: 1,
        1 - 2 * rare - 2.0**-53: 1,
        1 - 2 * rare: 2,
        1 - rare - 2.0**-53: 2,
        1 - rare: 4,
        1 - 2.0**-53: 4,
    }
    u = torch.tensor(list(chosen), dtype=torch.float64)[:, None]
    monkeypatch.setattr(numerics, "draw_uniform", lambda *_: u)
    drawn = draw_categorical(weights.expand(len(u), -1), generator(0))
    assert drawn.tolist() == list(chosen.values())
    # Unnormalised weights whose product with u rounds up to the total.
    huge = draw_categorical((weights * 3e300).expand(len(u), -1), generator(0))
    assert huge[-1] == 4
    assert drawn[0] == huge[0] == 1


def test_a_probability_of_1e_9_is_met_as_often_as_it_should_be(monkeypatch):
    # Stratified uniforms of spacing 1e-10 around the end of the unit interval: ten must hit.
    k = torch.arange(1, 201, dtype=torch.float64)
    u = (1 - (k - 0.5) * 1e-10)[:, None]
    monkeypatch.setattr(numerics, "draw_uniform", lambda *_: u)
    weights = torch.tensor([1 - 1e-9, 1e-9], dtype=torch.float64).expand(200, -1)
    assert int(draw_categorical(weights, generator(0)).sum()) == 10
    tiny = torch.tensor([1.0, 1e-9], dtype=torch.float32).expand(200, -1)
    assert int(draw_categorical(tiny, generator(0)).sum()) == 10


def test_stratified_times_stay_below_1_even_where_float32_would_round_up(monkeypatch):
    highest = torch.full((3, 100), 1 - 2.0**-24, dtype=torch.float32)
    monkeypatch.setattr(numerics, "draw_uniform", lambda *_: highest)
    times = draw_stratified(3, 100, generator(0), torch.float32)
    assert (times < 1).all()


def test_stratified_times_are_uniform_over_the_whole_interval():
    # Kolmogorov-Smirnov, n = 100,000: sup |F - t| √n > 2.75 with a probability of 5e-7.
    times = draw_stratified(100_000, 1, generator(0)).flatten().sort().values
    grid = torch.arange(1, 100_001, dtype=torch.float64) / 100_000
    assert float((times - grid).abs().max()) * math.sqrt(100_000) < 2.75


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_known_token_is_not_confused_with_its_near_neighbours_on_a_large_circle(dtype):
    size = 1000
    followers = torch.randperm(size, generator=generator(0))
    sequences = torch.stack([torch.arange(size), followers], -1)
    denoiser = ExactDenoiser(CircleCodebook(size).to(dtype), sequences)
    known = torch.stack([torch.arange(size), torch.full((size,), -1)], -1)
    posterior = denoiser(start(denoiser.codebook, size, 2, known=known))
    assert torch.equal(posterior.mode[:, 1], followers)
    assert (posterior.confidence[:, 1] > 0.999).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_an_invalid_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="positive and finite"):
        Tempered(WORLDS["full support"].denoiser, temperature)


@pytest.mark.parametrize("size", [0, -1])
def test_learned_codes_need_a_token_and_a_dimension(size):
    with pytest.raises(ValueError, match="at least one dimension"):
        LearnedCodebook(3, size)
    with pytest.raises(ValueError, match="at least one token"):
        LearnedCodebook(size, 3)
