"""Every path, estimator and transition against the exact `-log P`.

A check of "4 standard errors" has a two-sided false-alarm rate of 6e-5 for one draw; all generators
are seeded, so it fails or passes once and for all. Power: with 4,000 sequences the standard errors
are about 1 % of the value, so a lost ½, a flipped sign or a wrong √ is tens of errors away.
"""

import math

import pytest
import torch
from core.worlds import (
    COARSE_PATHS,
    EXACT_PATHS,
    PATHS,
    TRANSITIONS,
    WORLDS,
    cyclic,
    full_support,
    generator,
)

from stochloc.core import (
    Ancestral,
    Autoregressive,
    Block,
    CircleCodebook,
    Custom,
    Decode,
    Diffusion,
    Estimate,
    Euler,
    ExactDenoiser,
    Follow,
    Geometric,
    LearnedCodebook,
    Lomax,
    Masked,
    Rolling,
    SimplexCodebook,
    Uniform,
    bound,
    line_integral,
    sample,
    start,
)

pytestmark = pytest.mark.bulk


def assert_equal_within(estimate, exact, errors=4.0, slack=0.0):
    difference = estimate.values - exact
    stderr = float(difference.std() / math.sqrt(len(difference)))
    assert abs(float(difference.mean())) <= errors * stderr + slack, (difference.mean(), stderr)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("path", PATHS)
def test_the_line_integral_along_every_path_is_minus_log_p(world, path):
    denoiser = WORLDS[world].denoiser
    tokens = denoiser.sample(1500, generator(1))
    estimate = line_integral(denoiser, tokens, PATHS[path], 24, generator(2))
    # At γ = 60 the undecided share of a circle of 7 is exp(-60 · 0.75 / 8) a token, below 0.004.
    slack = 0.02 if path in COARSE_PATHS and world == "cyclic 7" else 1e-3
    assert_equal_within(estimate, -denoiser.log_prob(tokens), slack=slack)


@pytest.mark.parametrize("path", EXACT_PATHS)
def test_the_line_integral_is_minus_log_p_for_every_single_sequence(path):
    world = full_support(2, 2, CircleCodebook(2))
    copies = 2000
    estimate = line_integral(
        world.denoiser, world.every_sequence(copies), EXACT_PATHS[path], 16, generator(3)
    )
    values = estimate.values.view(-1, copies)
    stderr = values.std(-1) / math.sqrt(copies) + 1e-12
    exact = -world.denoiser.log_prob(world.denoiser.sequences)
    assert (((values.mean(-1) - exact) / stderr).abs() < 4.5).all()


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("path", PATHS)
def test_a_fine_walk_gives_minus_log_p_up_to_its_vanishing_bias(world, path, transition):
    """The bias is positive and of first order: at most what halving the steps takes away.

    With 600 sequences the spread allowed is about 0.8 nats for Euler and 0.25 for the ancestral
    cost, of 2 to 4.5 nats in all: a lost or doubled half is 8 or more standard errors away.
    """
    denoiser = WORLDS[world].denoiser
    tokens = denoiser.sample(600, generator(1))
    exact = -denoiser.log_prob(tokens)
    policy, step = Follow(PATHS[path]), TRANSITIONS[transition]
    fine = bound(denoiser, tokens, policy, step, 48, generator(5))
    gap = fine.values - exact
    stderr = float(gap.std() / math.sqrt(len(gap)))
    assert -4 * stderr - 1e-9 <= float(gap.mean())
    if path.startswith("custom"):
        # A grid of the user's own ignores the number of steps. The error falls along the walk, so
        # Euler's bias is at most half a step of it, ½ h Σ_i E_i(0), and the ancestral's is below.
        # Equal steps up to 2 are fine enough for that to be little; the other grid is coarse.
        if path in EXACT_PATHS:
            error = denoiser(start(denoiser.codebook, *tokens.shape)).uncertainty.sum(-1)
            num_steps = len(PATHS[path].first.knots) - 1
            assert float(gap.mean()) <= 4 * stderr + 0.5 * 2.0 / num_steps * float(error.mean())
        return
    coarse = bound(denoiser, tokens, policy, step, 24, generator(4))
    if fine.denoiser_calls == coarse.denoiser_calls:
        assert path in EXACT_PATHS
        torch.testing.assert_close(fine.values, exact, atol=1e-9, rtol=0)
    else:
        bias = max(0.0, coarse.mean - fine.mean)
        spread = 4 * math.hypot(stderr + fine.stderr, coarse.stderr)
        assert float(gap.mean()) <= bias + spread + 0.02


@pytest.mark.parametrize("order", [None, (2, 0, 3, 1)])
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_the_autoregressive_walk_is_the_chain_rule_term_by_term(order, transition):
    denoiser = WORLDS["markov chain"].denoiser
    tokens, length = denoiser.sequences, 4
    policy = Follow(Autoregressive(order))
    costs = bound(denoiser, tokens, policy, TRANSITIONS[transition], length, generator(0))
    seen = torch.full_like(tokens, -1)
    for position in order or range(length):
        before = start(denoiser.codebook, *tokens.shape, known=seen)
        seen[:, position] = tokens[:, position]
        matches = (denoiser.sequences[None] == tokens[:, None]) | (before.known[:, None] < 0)
        weights = denoiser.log_prior.exp() * matches.all(-1)
        agrees = denoiser.sequences[None, :, position] == tokens[:, None, position]
        term = -((weights * agrees).sum(-1) / weights.sum(-1)).log()
        torch.testing.assert_close(costs.token_nats[:, position], term, atol=1e-10, rtol=0)


def test_equation_4_holds_literally_one_token_diffusing_after_another():
    denoiser = WORLDS["markov chain"].denoiser
    tokens = denoiser.sample(4000, generator(1))
    integral = line_integral(denoiser, tokens, Block(1, Diffusion(Lomax())), 32, generator(2))
    chain = line_integral(denoiser, tokens, Autoregressive(), 4, generator(3))
    torch.testing.assert_close(chain.values, -denoiser.log_prob(tokens), atol=1e-9, rtol=0)
    assert_equal_within(integral, chain.values)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_the_cost_of_an_infinite_step_is_minus_log_q(transition):
    denoiser = WORLDS["full support"].denoiser
    tokens = denoiser.sequences
    costs = bound(denoiser, tokens, Follow(Decode()), TRANSITIONS[transition], 1, generator(0))
    posterior = denoiser(start(denoiser.codebook, *tokens.shape))
    torch.testing.assert_close(costs.token_nats, -posterior.log_prob(tokens))


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_the_bias_of_a_cost_shrinks_at_first_order_in_the_step(transition):
    # The end is decoded one token at a time, so discretisation is the only error; using the same
    # noise level at every N, the slope is known to ±0.15: order ½ or 2 would be 3 times as far off.
    world = full_support(2, 2, SimplexCodebook(2), seed=8)
    tokens = world.denoiser.sample(100_000, generator(1))
    exact = -world.denoiser.log_prob(tokens)
    biases = []
    for steps in (1, 2, 4, 8):
        knots = torch.linspace(0, 3.0, steps + 1)
        policy = Follow(Custom(knots).then(Autoregressive(), share=0.5))
        walk = bound(
            world.denoiser, tokens, policy, TRANSITIONS[transition], 2 * max(steps, 2), generator(2)
        )
        biases.append(float((walk.values - exact).mean()))
    slopes = torch.tensor(biases).log().diff() / math.log(2)
    assert (torch.tensor(biases) > 0).all()
    assert abs(float(slopes.mean()) + 1) < 0.3, slopes


def test_the_ancestral_cost_is_below_eulers():
    denoiser = WORLDS["cyclic 5"].denoiser
    tokens = denoiser.sample(20_000, generator(1))
    policy = Follow(Diffusion(Lomax()))
    ancestral = bound(denoiser, tokens, policy, Ancestral(), 8, generator(2))
    euler = bound(denoiser, tokens, policy, Euler(), 8, generator(2))
    assert euler.mean - ancestral.mean > 5 * math.hypot(ancestral.stderr, euler.stderr)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_for_a_single_token_the_ancestral_bound_is_exact_at_every_number_of_steps(steps):
    world = full_support(4, 1, SimplexCodebook(4))
    tokens = world.every_sequence(50)
    walk = bound(world.denoiser, tokens, Follow(Diffusion()), Ancestral(), steps, generator(1))
    torch.testing.assert_close(walk.values, -world.denoiser.log_prob(tokens), atol=1e-9, rtol=0)


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize(("path", "steps"), [("d", 1), ("d", 2), ("d", 4), ("m", 1), ("u", 3)])
def test_the_bound_of_n_steps_holds_for_the_n_step_sampler(path, steps, transition):
    # 100,000 samples know log q(x) to about 0.007; a bound of the exact distribution instead of the
    # sampler's would fall short by 0.05 to 0.3 here for some x.
    world = full_support(2, 2, SimplexCodebook(2), seed=8)
    denoiser, step = world.denoiser, TRANSITIONS[transition]
    paths = {"d": Diffusion(Lomax()), "m": Masked(), "u": Diffusion(Uniform(2.0))}
    policy, num = Follow(paths[path]), 100_000
    drawn = sample(denoiser, start(world.codebook, num, 2), policy, step, steps, generator(1))
    counts = (drawn.tokens[:, None] == denoiser.sequences).all(-1).sum(0).double()
    log_q = (counts / num).log()
    stderr_q = ((1 - counts / num) / counts).sqrt()
    copies = 10_000
    tokens = world.every_sequence(copies)
    values = bound(denoiser, tokens, policy, step, steps, generator(2)).values.view(-1, copies)
    stderr = (values.var(-1) / copies + stderr_q.square()).sqrt()
    gap = values.mean(-1) + log_q
    assert (gap > -4.5 * stderr - 1e-9).all(), gap
    assert (gap < 1.0).all(), "a bound this loose would prove nothing"


def test_a_bound_given_known_tokens_is_the_conditional_probability():
    denoiser = WORLDS["markov chain"].denoiser
    tokens = denoiser.sample(500, generator(1))
    known = tokens.clone()
    known[:, [0, 2]] = -1
    same = (denoiser.sequences[None, :, [1, 3]] == tokens[:, None, [1, 3]]).all(-1)
    log_marginal = (denoiser.log_prior.exp() * same).sum(-1).log()
    exact = log_marginal - denoiser.log_prob(tokens)
    walk = bound(denoiser, tokens, Follow(Masked()), Ancestral(), 4, generator(2), known)
    assert walk.denoiser_calls == 2
    assert (walk.token_nats[:, [1, 3]] == 0).all()
    torch.testing.assert_close(walk.values, exact, atol=1e-9, rtol=0)
    integral = line_integral(denoiser, tokens, Diffusion(Lomax()), 24, generator(3), known)
    assert_equal_within(integral, exact)


def test_given_a_label_the_bound_is_that_of_the_conditional_distribution():
    world = WORLDS["full support"]
    labels = world.denoiser.sequences.sum(-1) % 2
    conditional = world.denoiser.given(labels, 1)
    log_label = world.denoiser.log_prior[labels == 1].logsumexp(0)
    tokens = conditional.sample(2000, generator(1))
    exact = log_label - world.denoiser.log_prob(tokens)
    torch.testing.assert_close(-conditional.log_prob(tokens), exact)
    assert_equal_within(line_integral(conditional, tokens, Diffusion(), 16, generator(2)), exact)
    with pytest.raises(ValueError, match="label 7"):
        world.denoiser.given(labels, 7)


def test_the_factorised_end_bounds_minus_log_p_from_above_and_closes_as_its_snr_grows():
    denoiser = cyclic(5).denoiser
    tokens = denoiser.sample(3000, generator(1))
    gaps = []
    for snr in (0.5, 2.0, 40.0):
        path = Diffusion(Geometric(snr)).then(Decode(), share=0.25)
        estimate = line_integral(denoiser, tokens, path, 16, generator(2))
        gaps.append(estimate.mean - math.log(5))
        assert gaps[-1] > -4 * estimate.stderr
    assert gaps[0] > 1.0 > gaps[1] > abs(gaps[2])


def test_the_standard_error_is_that_of_the_totals():
    denoiser = ExactDenoiser(SimplexCodebook(2).double(), torch.tensor([[0, 0], [1, 1]]))
    tokens = denoiser.sample(400, generator(0))
    estimate = line_integral(denoiser, tokens, Diffusion(), 4, generator(1))
    totals = estimate.token_nats.sum(-1)
    assert estimate.stderr == pytest.approx(float(totals.std()) / 20)
    assert estimate.mean == pytest.approx(float(totals.mean()))
    joined = estimate.join([estimate, estimate])
    assert joined.mean == pytest.approx(estimate.mean)
    assert joined.denoiser_calls == estimate.denoiser_calls


def test_contradictory_known_tokens_and_empty_integrals_are_refused():
    denoiser = WORLDS["full support"].denoiser
    tokens = denoiser.sequences[:1]
    with pytest.raises(ValueError, match="contradict"):
        bound(denoiser, tokens, Follow(Masked()), Euler(), 2, generator(0), (tokens + 1) % 3)
    with pytest.raises(ValueError, match="at least 1"):
        line_integral(denoiser, tokens, Masked(), 0, generator(0))
    assert line_integral(denoiser, tokens, Masked(), 1, generator(0)).denoiser_calls == 1


def test_the_error_of_the_mean_of_two_is_half_their_distance_and_of_one_it_is_unknown():
    values = torch.tensor([[1.0, 2.0], [2.0, 5.0]], dtype=torch.float64)
    assert Estimate(values, 1).stderr == pytest.approx((7 - 3) / 2)
    assert math.isnan(Estimate(values[:1], 1).stderr)


def test_a_token_that_cannot_be_is_no_nan_where_it_does_not_jump_and_infinite_where_it_does():
    codebook = SimplexCodebook(3).double()
    denoiser = ExactDenoiser(codebook, torch.tensor([[0, 1], [1, 0]]))
    impossible = torch.tensor([[2, 1]])
    risen = line_integral(denoiser, impossible, Diffusion(Uniform(8.0)), 8, generator(0))
    assert not risen.token_nats.isnan().any()
    jumped = line_integral(denoiser, impossible, Masked(), 8, generator(0))
    assert jumped.token_nats.isposinf().tolist() == [[True, False]]


def close_codes(distance: float) -> ExactDenoiser:
    angle = 2 * math.asin(distance / 2)
    codes = LearnedCodebook(3, 2).double()
    near = [math.cos(angle), math.sin(angle)]
    codes.directions.data = torch.tensor([[1.0, 0.0], near, [-1.0, -1.0]], dtype=torch.float64)
    return ExactDenoiser(codes, torch.cartesian_prod(torch.arange(3), torch.arange(3)))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (SimplexCodebook(1), math.inf),
        (SimplexCodebook(5), math.sqrt(2)),
        (CircleCodebook(1), math.inf),
        (CircleCodebook(7), 2 * math.sin(math.pi / 7)),
        (CircleCodebook(3000), 2 * math.sin(math.pi / 3000)),
    ],
)
def test_a_codebook_knows_its_smallest_distance(codes, expected):
    assert codes.smallest_distance() == pytest.approx(expected, rel=1e-6)
    assert close_codes(0.4).codebook.smallest_distance() == pytest.approx(0.4)


@pytest.mark.parametrize(
    "path",
    [
        Diffusion(),
        Block(1, Diffusion()),
        Rolling(2, Lomax()),
        Diffusion(Uniform(3.0)).then(Diffusion()),
    ],
)
@torch.no_grad()
def test_an_integral_to_infinity_warns_where_codes_are_too_close(path):
    tokens = torch.tensor([[0, 2]])
    with pytest.warns(UserWarning, match=r"only 0\.4 apart.*Stop at a finite γ"):
        line_integral(close_codes(0.4), tokens, path, 4, generator(0))
    # Warnings are errors here.
    line_integral(close_codes(0.6), tokens, path, 4, generator(0))


@torch.no_grad()
def test_an_integral_that_stops_and_decodes_is_of_use_with_close_codes():
    # 2,000 sequences of 2.2 nats: the spread is 1 nat or so, not the 20 of an integral to ∞.
    denoiser = close_codes(0.1)
    tokens = denoiser.sample(2000, generator(0))
    for path in (Diffusion(Lomax(snr_max=40.0)).then(Decode(), share=1 / 16), Masked()):
        estimate = line_integral(denoiser, tokens, path, 16, generator(1))
        assert float(estimate.values.std()) < 1.6
        assert_equal_within(estimate, 2 * math.log(3), errors=5, slack=1e-9)
