"""Identities proven sequence by sequence, token by token, or without any sampling error.

Statistical checks allow 4.5 standard errors (7e-6 two-sided for one number; all seeds are fixed)
unless they say otherwise, and state what they could not miss.
"""

import math

import pytest
import torch
from core.worlds import EXACT_PATHS, TRANSITIONS, WORLDS, full_support, generator
from hypothesis import given, settings
from hypothesis import strategies as st

from stochloc.core import (
    Ancestral,
    Autoregressive,
    Block,
    CircleCodebook,
    Custom,
    Decode,
    Diffusion,
    Euler,
    Follow,
    Geometric,
    Lomax,
    Masked,
    Rolling,
    SimplexCodebook,
    State,
    Uniform,
    advance,
    bound,
    line_integral,
    observe,
    rewind,
    sample,
    start,
)

pytestmark = pytest.mark.bulk

CODES = CircleCodebook(5)
TOKENS = torch.tensor([[0, 3, 1], [2, 2, 4]])
X = CODES.encode(TOKENS)
SNRS = st.lists(st.floats(1e-3, 50), min_size=6, max_size=6)


def per_token(values):
    return torch.tensor(values, dtype=torch.float64).view(2, 3)


def unknown_at(z, snr):
    return State(z, torch.full((2, 3), -1), snr)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-9)


def advance_spread(dsnr):
    """Return the factor of the noise in a step: a step of 1 shows the noise of the same seed."""
    zero = start(CODES, 2, 3)
    noise = advance(CODES, zero, TOKENS, torch.ones(2, 3).double(), generator(7)).z - X
    moved = advance(CODES, zero, TOKENS, dsnr, generator(7)).z
    factor = (moved - dsnr[..., None] * X) / noise
    close(factor, factor[..., :1].expand_as(factor))
    return factor[..., 0]


def rewind_factors(high, low):
    """Return the bridge's factors `c` and `s` in `z_low = c z_high + s ε`."""
    known = start(CODES, 2, 3, known=TOKENS)
    noise = rewind(CODES, known, torch.ones(2, 3).double(), generator(7)).z - X
    spread = rewind(CODES, unknown_at(torch.zeros_like(X), high), low, generator(7)).z / noise
    share = (rewind(CODES, unknown_at(X, high), low, generator(7)).z - spread * noise) / X
    nonzero = X.abs().argmax(-1, keepdim=True)
    return share.gather(-1, nonzero)[..., 0], spread[..., 0]


@settings(max_examples=40, deadline=None)
@given(first=SNRS, second=SNRS)
def test_two_steps_up_have_exactly_the_mean_and_variance_of_their_sum(first, second):
    # Each step adds dsnr·x, so means add up; independent noises add their squared factors.
    a, b = per_token(first), per_token(second)
    close(advance_spread(a).square() + advance_spread(b).square(), advance_spread(a + b).square())
    close(advance_spread(a).square(), a)


@settings(max_examples=40, deadline=None)
@given(low=SNRS, rise=SNRS)
def test_the_way_back_is_exactly_the_brownian_bridge(low, rise):
    # With z_high of mean γ'x and variance γ': mean γx, variance γ and covariance γ with z_high;
    # climbing from γ to γ' again then has variance γ'. Every token has a γ and a γ' of its own.
    a, b = per_token(low), per_token(low) + per_token(rise)
    share, spread = rewind_factors(b, a)
    close(share * b, a)
    close(share.square() * b + spread.square(), a)
    close(share.square() * b + spread.square() + advance_spread(b - a).square(), b)


@settings(max_examples=40, deadline=None)
@given(low=SNRS, middle=SNRS, high=SNRS)
def test_going_back_in_two_steps_is_going_back_in_one(low, middle, high):
    a = per_token(low)
    b = a + per_token(middle)
    c = b + per_token(high)
    share_1, spread_1 = rewind_factors(c, b)
    share_2, spread_2 = rewind_factors(b, a)
    share, spread = rewind_factors(c, a)
    close(share_1 * share_2, share)
    close((share_2 * spread_1).square() + spread_2.square(), spread.square())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), a=st.floats(1e-3, 20), b=st.floats(1e-3, 20))
def test_the_posterior_of_two_looks_at_a_token_multiplies_their_evidence(seed, a, b):
    # Independent observations with γ = a and γ = b are worth one with γ = a + b: z adds up.
    denoiser = WORLDS["full support"].denoiser
    shape = (1, 3, 3)
    z_a = a * torch.randn(shape, dtype=torch.float64, generator=generator(seed))
    z_b = b * torch.randn(shape, dtype=torch.float64, generator=generator(seed + 1))
    unknown, snr = torch.full((1, 3), -1), torch.ones(1, 3, dtype=torch.float64)
    posteriors = [
        denoiser.sequence_log_posterior(State(z, unknown, snr)) for z in (z_a, z_b, z_a + z_b)
    ]
    product = (posteriors[0] + posteriors[1] - denoiser.log_prior).log_softmax(-1)
    torch.testing.assert_close(product, posteriors[2], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("path", [Masked(), Autoregressive(), Block(2, Masked())])
def test_one_token_at_a_time_is_minus_log_p_of_every_sequence_without_error(
    world, path, transition
):
    denoiser, length = WORLDS[world].denoiser, WORLDS[world].length
    tokens, steps = denoiser.sequences, 2 * WORLDS[world].length
    walk = bound(denoiser, tokens, Follow(path), TRANSITIONS[transition], steps, generator(1))
    torch.testing.assert_close(walk.values, -denoiser.log_prob(tokens), atol=1e-9, rtol=0)
    assert length <= walk.denoiser_calls <= steps


@pytest.mark.parametrize("world", WORLDS)
def test_every_order_gives_minus_log_p_by_integral_by_walk_and_after_a_diffusion(world):
    denoiser, length = WORLDS[world].denoiser, WORLDS[world].length
    order = tuple(torch.randperm(length, generator=generator(9)).tolist())
    for path in (Autoregressive(order), Autoregressive(tuple(reversed(range(length))))):
        tokens = denoiser.sequences
        integral = line_integral(denoiser, tokens, path, length, generator(1))
        torch.testing.assert_close(integral.values, -denoiser.log_prob(tokens), atol=1e-9, rtol=0)
        walk = bound(denoiser, tokens, Follow(path), Euler(), length, generator(1))
        torch.testing.assert_close(walk.values, -denoiser.log_prob(tokens), atol=1e-9, rtol=0)
    # The hybrid: 1,500 sequences; a lost half of the diffusion's share is over 10 errors away.
    tokens = denoiser.sample(1500, generator(2))
    hybrid = Diffusion(Uniform(3.0)).then(Autoregressive(order))
    gap = line_integral(denoiser, tokens, hybrid, 24, generator(3)).values
    gap = gap + denoiser.log_prob(tokens)
    assert abs(float(gap.mean())) < 4.5 * float(gap.std()) / math.sqrt(len(gap))


@pytest.mark.parametrize(
    "path",
    [
        Diffusion(Uniform(1.0)),
        Diffusion(Lomax(snr_max=2.0)),
        Custom(torch.tensor([0.0, 0.5, 1.5])),
        Diffusion(Uniform(0.5)).then(Diffusion(Uniform(2.0))),
    ],
)
def test_equation_12_adds_what_is_still_uncertain_at_a_finite_end(path):
    # For one token the factorised end is exact. 6,000 copies of each value: errors below 0.02,
    # while the end holds more than 0.2 nats of each.
    world, copies = full_support(4, 1, CircleCodebook(4)), 6000
    tokens = world.every_sequence(copies)
    integral = line_integral(world.denoiser, tokens, path, 8, generator(1))
    assert integral.denoiser_calls == 9
    values = integral.values.view(-1, copies)
    stderr = values.std(-1) / math.sqrt(copies)
    exact = -world.denoiser.log_prob(world.denoiser.sequences)
    assert ((values.mean(-1) - exact).abs() < 4.5 * stderr).all()
    ends = observe(world.codebook, tokens, path.end(torch.ones_like(tokens).bool()), generator(2))
    left = -world.denoiser(ends).log_prob(tokens).view(-1, copies).mean(-1)
    assert (left > 10 * stderr).all()


def test_equation_7_holds_for_every_token_of_the_chain_separately():
    # 4,000 sequences: errors of about 0.02 on conditional entropies of 0.3 to 1.1 nats.
    denoiser = WORLDS["markov chain"].denoiser
    tokens = denoiser.sample(4000, generator(1))
    integral = line_integral(denoiser, tokens, Block(1, Diffusion(Lomax())), 32, generator(2))
    chain = bound(denoiser, tokens, Follow(Autoregressive()), Ancestral(), 4, generator(3))
    gap = integral.token_nats - chain.token_nats
    stderr = gap.std(0) / math.sqrt(len(gap))
    assert (gap.mean(0).abs() < 4.5 * stderr).all(), (gap.mean(0), stderr)
    assert (stderr < 0.05).all()


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("name", ["diffusion, lomax", "block, diffusion", "rolling, to infinity"])
def test_a_fine_walk_gives_minus_log_p_of_every_single_sequence(name, transition):
    """Richardson's `2 B(2N) - B(N)` removes the first-order bias that the slope test proves.

    What is left is of second order: a quarter of the removed term is allowed. The errors are about
    0.1 nats (Euler) and 0.05 (ancestral) on values of 0.6 to 5 nats; a lost or doubled half
    changes each of them by half or all of its value.
    """
    world, copies = full_support(2, 2, CircleCodebook(2)), 1500
    tokens, policy = world.every_sequence(copies), Follow(EXACT_PATHS[name])
    walks = [
        bound(world.denoiser, tokens, policy, TRANSITIONS[transition], steps, generator(steps))
        for steps in (16, 32)
    ]
    coarse, fine = (walk.values.view(-1, copies) for walk in walks)
    richardson = 2 * fine.mean(-1) - coarse.mean(-1)
    stderr = (4 * fine.var(-1) + coarse.var(-1)).div(copies).sqrt()
    exact = -world.denoiser.log_prob(world.denoiser.sequences)
    left = 0.25 * (coarse.mean(-1) - fine.mean(-1)).abs()
    assert ((richardson - exact).abs() < 4.5 * stderr + left).all(), (richardson, exact, stderr)


def test_the_bound_given_a_label_is_minus_log_p_of_x_given_y():
    world = WORLDS["markov chain"].denoiser
    labels = (world.sequences[:, 0] + world.sequences[:, 3]) % 2
    conditional = world.given(labels, 0)
    tokens = world.sequences[labels == 0]
    exact = world.log_prior[labels == 0].logsumexp(0) - world.log_prob(tokens)
    walk = bound(conditional, tokens, Follow(Autoregressive()), Euler(), 4, generator(0))
    torch.testing.assert_close(walk.values, exact, atol=1e-9, rtol=0)
    # A diffusion of 64 steps, 60 copies each: its bias is positive and below 0.1.
    copies = tokens.repeat_interleave(60, 0)
    fine = bound(conditional, copies, Follow(Diffusion()), Ancestral(), 64, generator(1))
    gap = fine.values - exact.repeat_interleave(60)
    assert -4.5 * fine.stderr < float(gap.mean()) < 4.5 * fine.stderr + 0.1
    # The wrong distribution would be noticed: the unconditional one is log 2 or so away.
    unconditional = bound(world, tokens, Follow(Autoregressive()), Euler(), 4, generator(0))
    assert float((unconditional.values - exact).min()) > 0.2


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("path", [Masked(), Autoregressive((2, 1, 0)), Diffusion(Lomax())])
def test_a_prompt_is_continued_from_the_exact_conditional_distribution(path, transition):
    """χ² of 9 continuations, 8 degrees of freedom: above 50 with a probability of 4e-8.

    Tokens drawn independently, each from its right conditional marginal, give more than 100, as
    the end shows. The diffusion of 48 steps has a bias of its own, unseen by 4,000 samples.
    """
    denoiser, prompt = WORLDS["full support"].denoiser, 2
    num = 4000 if isinstance(path, Diffusion) else 20_000
    known = torch.tensor([[-1, prompt, -1]]).expand(num, 3)
    state = start(denoiser.codebook, num, 3, known=known)
    tokens = sample(denoiser, state, Follow(path), TRANSITIONS[transition], 48, generator(1)).tokens
    assert (tokens[:, 1] == prompt).all()
    fits = denoiser.sequences[:, 1] == prompt
    counts = (tokens[:, None] == denoiser.sequences[fits]).all(-1).sum(0).double()
    expected = denoiser.log_prior[fits].softmax(0) * num
    assert float(((counts - expected).square() / expected).sum()) < 50
    first, last = (
        torch.stack([counts[denoiser.sequences[fits][:, i] == v].sum() for v in range(3)]) / num
        for i in (0, 2)
    )
    independent = (first[:, None] * last).flatten() * num
    assert float(((counts - independent).square() / independent).sum()) > 100


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize(
    ("path", "steps", "largest_gap"),
    [
        (Block(1, Diffusion(Lomax())), 4, 1.0),
        (Rolling(2, Lomax(snr_max=6.0)), 3, 1.0),
        (Custom(torch.tensor([0.0, 1.0, 3.0])).then(Decode()), 2, 1.0),
        (Diffusion(Geometric(8.0)).then(Masked(), share=0.2), 16, 0.15),
        (Diffusion(Lomax()), 24, 0.15),
    ],
)
def test_the_bound_holds_for_the_distribution_of_the_sampler_and_tightens(
    path, steps, largest_gap, transition
):
    """40,000 samples know log q(x) to 0.005-0.02; 4.5 errors of both sides are allowed.

    At few steps q differs from P by more than that, and at many the gap must be small.
    """
    world, num, copies = full_support(2, 2, SimplexCodebook(2), seed=8), 40_000, 4000
    policy, step = Follow(path), TRANSITIONS[transition]
    drawn = sample(
        world.denoiser, start(world.codebook, num, 2), policy, step, steps, generator(1)
    ).tokens
    share = (drawn[:, None] == world.denoiser.sequences).all(-1).double().mean(0)
    tokens = world.every_sequence(copies)
    values = bound(world.denoiser, tokens, policy, step, steps, generator(2)).values
    values = values.view(-1, copies)
    stderr = (values.var(-1) / copies + (1 - share) / (share * num)).sqrt()
    gap = values.mean(-1) + share.log()
    assert (gap > -4.5 * stderr).all(), gap
    assert (gap < largest_gap + 4.5 * stderr).all(), gap
