"""The exact denoiser: Bayes' rule, the gradient of a convex function, and calibration."""

import math

import pytest
import torch
from core.worlds import WORLDS, full_support, generator
from hypothesis import given, settings
from hypothesis import strategies as st

from stochloc.core import (
    CircleCodebook,
    DensePosterior,
    ExactDenoiser,
    LearnedCodebook,
    SimplexCodebook,
    State,
    Tempered,
    observe,
    start,
)

CODEBOOKS = {
    "simplex": SimplexCodebook(3),
    "circle": CircleCodebook(3),
    "learned": LearnedCodebook(3, 4, generator(0)),
}


def state_at(z):
    unknown = torch.full(z.shape[:-1], -1)
    return State(z, unknown, torch.ones(z.shape[:-1], dtype=z.dtype))


@pytest.mark.parametrize("name", CODEBOOKS)
def test_the_posterior_is_bayes_rule_with_a_snr_for_every_token_although_it_reads_none(name):
    world = full_support(3, 3, CODEBOOKS[name])
    denoiser, rows = world.denoiser, 64
    snr = 4 * torch.rand(rows, 3, dtype=torch.float64, generator=generator(1)) + 0.01
    tokens = denoiser.sample(rows, generator(2))
    state = observe(world.codebook, tokens, snr, generator(3))
    codes = world.codebook.encode(denoiser.sequences)
    distance = (state.z[:, None] - snr[:, None, :, None] * codes).square().sum(-1)
    log_joint = denoiser.log_prior - 0.5 * (distance / snr[:, None]).sum(-1)
    brute_force = log_joint.softmax(-1)
    exact = denoiser.sequence_log_posterior(state).exp()
    torch.testing.assert_close(exact, brute_force, atol=1e-10, rtol=0)
    marginal = torch.stack(
        [brute_force[:, denoiser.sequences[:, 1] == v].sum(-1) for v in range(3)], -1
    )
    torch.testing.assert_close(denoiser(state).probs[:, 1], marginal, atol=1e-10, rtol=0)


@pytest.mark.parametrize("world", WORLDS)
def test_x_hat_is_the_gradient_of_the_log_partition_function(world):
    denoiser = WORLDS[world].denoiser
    z = torch.randn(
        5, WORLDS[world].length, denoiser.codebook.dimension,
        dtype=torch.float64, generator=generator(0),
    ).requires_grad_()  # fmt: skip
    codes = denoiser.codebook.encode(denoiser.sequences)
    scores = torch.einsum("bld,mld->bm", z, codes)
    partition = torch.logsumexp(denoiser.log_prior + scores, -1).sum()
    (gradient,) = torch.autograd.grad(partition, z)
    torch.testing.assert_close(denoiser(state_at(z.detach())).mean, gradient)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 30), step=st.floats(1e-3, 10))
def test_the_drift_of_a_whole_sequence_is_lipschitz_in_the_norm_of_its_codes(seed, scale, step):
    # Paper A.7 has one token of norm 1; for a sequence of L tokens, whose code has norm √L, the
    # covariance is bounded by L. With independent tokens it is bounded by 1 again.
    for world, constant in (("full support", 3.0), ("cyclic 5", 5.0)):
        denoiser, length = WORLDS[world].denoiser, WORLDS[world].length
        shape = (1, length, denoiser.codebook.dimension)
        z = scale * torch.randn(shape, dtype=torch.float64, generator=generator(seed))
        dz = step * torch.randn(shape, dtype=torch.float64, generator=generator(seed + 1))
        change = denoiser(state_at(z + dz)).mean - denoiser(state_at(z)).mean
        assert change.norm() <= constant * dz.norm() + 1e-12


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 30), step=st.floats(1e-3, 10))
def test_the_drift_of_one_token_is_1_lipschitz(seed, scale, step):
    denoiser = full_support(5, 1, CircleCodebook(5)).denoiser
    z = scale * torch.randn(1, 1, 2, dtype=torch.float64, generator=generator(seed))
    dz = step * torch.randn(1, 1, 2, dtype=torch.float64, generator=generator(seed + 1))
    change = denoiser(state_at(z + dz)).mean - denoiser(state_at(z)).mean
    assert change.norm() <= dz.norm() + 1e-12


@pytest.mark.parametrize("world", WORLDS)
def test_the_expected_squared_error_is_the_uncertainty(world):
    # 40,000 states: the standard error is about 0.002 while the values are of order 0.5.
    denoiser = WORLDS[world].denoiser
    tokens = denoiser.sample(40_000, generator(0))
    snr = torch.full(tokens.shape, 0.8, dtype=torch.float64)
    posterior = denoiser(observe(denoiser.codebook, tokens, snr, generator(1)))
    error = (denoiser.codebook.encode(tokens) - posterior.mean).square().sum(-1)
    gap = (error - posterior.uncertainty).sum(-1)
    assert abs(float(gap.mean())) < 5.5 * float(gap.std()) / math.sqrt(len(gap))


def test_a_known_token_is_certain_and_its_z_is_never_read():
    denoiser = WORLDS["markov chain"].denoiser
    known = torch.tensor([[-1, 2, -1, 0]])
    state = start(denoiser.codebook, 1, 4, known=known)
    noisy = State(torch.where(state.is_known[..., None], 0.0, state.z), state.known, state.snr)
    posterior = denoiser(state)
    assert posterior.log_prob(torch.tensor([[0, 2, 0, 0]]))[0, [1, 3]].tolist() == [0.0, 0.0]
    assert posterior.entropy[0, [1, 3]].tolist() == [0.0, 0.0]
    assert torch.equal(denoiser(noisy).log_probs, posterior.log_probs)
    assert posterior.mode[0, [1, 3]].tolist() == [2, 0]


def test_known_tokens_that_fit_no_sequence_leave_those_that_agree_best():
    denoiser = WORLDS["cyclic 5"].denoiser
    known = torch.tensor([[0, 1, 2, 0, -1]])
    posterior = denoiser(start(denoiser.codebook, 1, 5, known=known))
    assert posterior.mode.tolist() == [[0, 1, 2, 0, 4]]


@pytest.mark.parametrize("world", WORLDS)
def test_the_questions_a_posterior_answers_agree_with_its_probabilities(world):
    denoiser = WORLDS[world].denoiser
    tokens = denoiser.sample(50, generator(0))
    snr = torch.rand(tokens.shape, dtype=torch.float64, generator=generator(1)) * 3
    posterior = denoiser(observe(denoiser.codebook, tokens, snr, generator(2)))
    probs, codes = posterior.probs, denoiser.codebook.vectors
    torch.testing.assert_close(probs.sum(-1), torch.ones_like(probs[..., 0]))
    torch.testing.assert_close(posterior.mean, probs @ codes)
    torch.testing.assert_close(posterior.entropy, -(probs * probs.clamp(min=1e-300).log()).sum(-1))
    torch.testing.assert_close(posterior.confidence, probs.amax(-1))
    dz = torch.randn(posterior.mean.shape, dtype=torch.float64, generator=generator(3))
    own = (codes[tokens] * dz).sum(-1)
    mgf = (probs * (dz @ codes.T).exp()).sum(-1).log()
    torch.testing.assert_close(posterior.log_mgf(dz, tokens), mgf - own)
    picked = probs.gather(-1, tokens[..., None]).squeeze(-1)
    torch.testing.assert_close(posterior.log_prob(tokens), picked.log())
    assert torch.equal(posterior.mode, probs.argmax(-1))


def test_a_temperature_raises_the_posterior_to_its_inverse_power():
    denoiser = WORLDS["full support"].denoiser
    state = start(denoiser.codebook, 1, 3)
    sharp, plain = Tempered(denoiser, 0.5)(state), denoiser(state)
    assert isinstance(sharp, DensePosterior)
    squared = plain.probs.square()
    torch.testing.assert_close(sharp.probs, squared / squared.sum(-1, keepdim=True))
    with pytest.raises(ValueError, match="positive"):
        Tempered(denoiser, 0.0)


def test_tokens_equally_likely_stay_so_at_any_temperature():
    flat = DensePosterior(torch.full((1, 1, 200), -math.log(200)), SimplexCodebook(200))
    for temperature in (1e-300, 1e-30, 1.0, 1e300):
        cooled = flat.tempered(temperature)
        torch.testing.assert_close(cooled.log_probs, flat.log_probs, msg=str(temperature))


def test_long_sequences_that_agree_with_what_is_known_are_all_kept_in_float32():
    codebook = LearnedCodebook(30, 16, generator(0)).float()
    tokens = torch.randint(30, (1, 2000), generator=generator(1)).repeat(37, 1)
    tokens[:, 1000:] = torch.randint(30, (37, 1000), generator=generator(2))
    known = tokens[:1].clone()
    known[:, 1000:] = -1
    denoiser = ExactDenoiser(codebook, tokens)
    posterior = denoiser.sequence_log_posterior(start(codebook, 1, 2000, known=known))
    torch.testing.assert_close(posterior, torch.full((1, 37), -math.log(37)))


def test_a_known_token_rules_out_its_neighbour_on_the_circle_however_long_the_sequence():
    # Neighbours among 100 agree to 0.002; rounding of 1,000 products in float32 may be as much.
    codebook = CircleCodebook(100).float()
    tokens = torch.zeros(2, 1000, dtype=torch.long)
    tokens[1, 0] = 1
    known = tokens[:1].where(torch.arange(1000) < 3, -1)
    posterior = ExactDenoiser(codebook, tokens).sequence_log_posterior(
        start(codebook, 1, 1000, known=known)
    )
    assert posterior.exp().tolist() == [[1.0, 0.0]]


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="at least one sequence"):
        ExactDenoiser(SimplexCodebook(2), torch.zeros(0, 3, dtype=torch.long))


def test_whole_sequences_are_drawn_in_proportion_to_their_probability():
    # χ² with 26 degrees of freedom: above 85 with a probability of 4e-8.
    denoiser = WORLDS["full support"].denoiser
    drawn = denoiser.sample(50_000, generator(0))
    counts = (drawn[:, None] == denoiser.sequences).all(-1).sum(0).double()
    expected = denoiser.log_prior.exp() * 50_000
    assert float(((counts - expected).square() / expected).sum()) < 85
