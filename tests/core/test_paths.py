"""One contract for all paths, and the free walks that follow them."""

import math

import pytest
import torch
from core.worlds import PATHS, TRANSITIONS, WORLDS, generator

from stochloc.core import (
    Ancestral,
    Autoregressive,
    Block,
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
    Tempered,
    Then,
    Uniform,
    line_integral,
    localize,
    observe,
    sample,
    start,
)

pytestmark = pytest.mark.bulk

SPACINGS = [Uniform(7.0), Geometric(30.0, 0.5), Lomax(), Lomax(3.0, 1.5, 20.0)]
FREE = torch.tensor([[True, True, False, True, True, True], [True, False, True, True, True, True]])


@pytest.mark.parametrize("name", PATHS)
def test_a_grid_starts_at_zero_never_decreases_and_ends_at_the_end(name):
    path = PATHS[name]
    for steps in (3, 6, 17):
        grid = path.draw(steps, FREE, generator(0))
        knots = grid.stack()
        assert knots.shape == (grid.num_steps + 1, 2, 6)
        assert (knots[0][FREE] == 0).all()
        assert (knots[1:] >= knots[:-1]).all()
        torch.testing.assert_close(knots[-1][FREE], path.end(FREE)[FREE])
        assert float(path.end(FREE).min()) == path.snr_end
        if "custom" not in name:
            assert grid.num_steps <= steps


def test_a_leg_that_raises_some_tokens_while_another_jumps_is_integrated_without_bias():
    """40,000 sequences: 5 standard errors, of 0.003 nats; an error of 0.8 % is 0.02 nats.

    Tokens that jump while the others are still rising are off by several per cent.
    """
    denoiser = WORLDS["full support"].denoiser
    knots = [[0.0, 0.0, 0.0], [1.5, 1.0, math.inf], [3.0, math.inf, math.inf], [math.inf] * 3]
    tokens = denoiser.sample(40_000, generator(1))
    path = Custom(torch.tensor(knots))
    gap = line_integral(denoiser, tokens, path, 16, generator(2)).values
    gap = gap + denoiser.log_prob(tokens)
    stderr = float(gap.std()) / math.sqrt(len(gap))
    assert abs(float(gap.mean())) < 5 * stderr < 0.016
    # A token that is given does not split a leg: the others rise all the time.
    free = torch.tensor([[True, True, True], [True, True, False]])
    point = path.at(torch.full((2,), 0.1).double(), free, generator(0))
    assert point.speed.tolist() == [[9.0, 6.0, 0.0], [4.5, 3.0, 0.0]]
    assert point.jump.tolist() == [[0.0] * 3] * 2


def test_a_custom_path_in_time_goes_through_the_knots_of_its_walk():
    knots = torch.tensor([[0, 0, 0], [3, 2, math.inf], [6, math.inf, math.inf]]).double()
    free, path = torch.ones(1, 3, dtype=torch.bool), Custom(knots)
    grid = path.draw(9, free, generator(0)).stack()[:, 0]
    assert torch.equal(grid, knots)
    for leg in range(2):
        begin, middle, end = (
            path.at(torch.tensor([(leg + share) / 2], dtype=torch.float64), free, generator(0))
            for share in (0.0, 0.5, 1 - 1e-12)
        )
        torch.testing.assert_close(begin.snr[0], grid[leg])
        # At half time what rises has risen, and what jumps is about to, with the state of before.
        jumps = grid[leg + 1].isinf() & grid[leg].isfinite()
        for point in (middle, end):
            torch.testing.assert_close(point.snr[0], torch.where(jumps, grid[leg], grid[leg + 1]))
            assert (point.speed == 0).all()
            assert torch.equal(point.jump[0], 4.0 * jumps)
        torch.testing.assert_close(
            begin.speed[0], 4 * (grid[leg + 1] - grid[leg]).nan_to_num(0, 0, 0)
        )
        assert (begin.jump == 0).all()


@pytest.mark.parametrize("name", PATHS)
def test_only_free_tokens_move_and_never_downwards(name):
    for seed in range(20):
        time = torch.rand(2, dtype=torch.float64, generator=generator(seed))
        point = PATHS[name].at(time, FREE, generator(seed))
        for rate in (point.speed, point.jump):
            assert (rate >= 0).all()
            assert (rate[~FREE] == 0).all()
            assert rate.isfinite().all()
        assert (point.snr >= 0).all()


@pytest.mark.parametrize("name", PATHS)
def test_every_token_jumps_once_on_average_or_rises_continuously_to_its_end(name):
    # E ∫ exp(-γ) dγ over the continuous part plus exp(-γ) at a jump is ∫ exp(-γ) dγ from 0 to the
    # end, whatever the path: with 40,000 times the error is below 0.02, a lost factor far above.
    num = 40_000
    free = torch.ones(num, 5, dtype=torch.bool)
    time = (torch.arange(num).double() + 0.5) / num
    time = time[torch.randperm(num, generator=generator(0))]
    point = PATHS[name].at(time, free, generator(1))
    decay = (-point.snr).exp()
    terms = point.speed * decay + point.jump * decay
    stderr = terms.std(0) / math.sqrt(num)
    expected = 1 - torch.exp(-PATHS[name].end(free[:1]))[0]
    assert ((terms.mean(0) - expected).abs() < 5 * stderr + 1e-3).all(), terms.mean(0)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_draws_from_its_generator_alone(name):
    before = torch.get_rng_state()
    first = PATHS[name].draw(6, FREE, generator(3)).stack()
    again = PATHS[name].draw(6, FREE, generator(3)).stack()
    PATHS[name].at(torch.tensor([0.2, 0.8]).double(), FREE, generator(3))
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", PATHS)
def test_a_walk_of_no_steps_is_refused(name):
    with pytest.raises(ValueError, match="step"):
        PATHS[name].draw(0, FREE, generator(0))


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_free_walk_ends_with_all_tokens_known_and_leaves_the_prompt_alone(name, transition):
    denoiser = WORLDS["markov chain"].denoiser
    known = torch.tensor([[-1, 2, -1, -1]]).expand(16, 4)
    state, policy = start(denoiser.codebook, 16, 4, known=known), Follow(PATHS[name])
    before = torch.get_rng_state()
    walks = [
        list(localize(denoiser, state, policy, TRANSITIONS[transition], 8, generator(1)))
        for _ in range(2)
    ]
    end = walks[0][-1].state
    assert end.is_finished
    assert (end.known[:, 1] == 2).all()
    assert ((end.known >= 0) & (end.known < 3)).all()
    assert torch.equal(end.known, walks[1][-1].state.known)
    assert torch.equal(before, torch.get_rng_state())
    drawn = sample(denoiser, state, policy, TRANSITIONS[transition], 8, generator(1))
    assert torch.equal(drawn.tokens, end.known)
    assert drawn.denoiser_calls == len(walks[0])


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("name", ["masked", "autoregressive"])
def test_one_token_at_a_time_draws_from_the_exact_distribution(name, transition):
    # χ² with 26 degrees of freedom: above 85 with a probability of 4e-8.
    denoiser, num = WORLDS["full support"].denoiser, 50_000
    state = start(denoiser.codebook, num, 3)
    tokens = sample(
        denoiser, state, Follow(PATHS[name]), TRANSITIONS[transition], 3, generator(0)
    ).tokens
    counts = (tokens[:, None] == denoiser.sequences).all(-1).sum(0).double()
    expected = denoiser.log_prior.exp() * num
    assert float(((counts - expected).square() / expected).sum()) < 85


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_conditional_and_unconditional_dynamics_have_the_same_marginals(transition):
    """Paper A.4, with a different γ for every token, by moments and by a two-sample test.

    One walk is compared with the channel at three of its knots. Kolmogorov-Smirnov on 12
    projections of 12,000 samples: the limit 0.04 has a false-alarm rate below 1e-6 for all 72
    together; a drift wrong by a factor of 2 moves some projection by far more.
    """
    denoiser, num = WORLDS["cyclic 5"].denoiser, 12_000
    shape = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.25], dtype=torch.float64)
    marks, pieces = (0.4, 1.5, 4.0), (6, 14, 25)
    knots, checks = [torch.zeros(1, dtype=torch.float64)], {}
    for mark, piece in zip(marks, pieces, strict=True):
        rise = torch.arange(1, piece + 1, dtype=torch.float64) / piece
        knots.append(knots[-1][-1] + rise * (mark - knots[-1][-1]))
        checks[sum(len(part) for part in knots) - 2] = mark
    policy = Follow(Custom(torch.cat(knots)[:, None] * shape))
    walk = localize(
        denoiser, start(denoiser.codebook, num, 5), policy, TRANSITIONS[transition], 45,
        generator(1),
    )  # fmt: skip
    compared = 0
    for step in walk:
        if step.index not in checks:
            continue
        compared += 1
        ends = checks[step.index] * shape
        torch.testing.assert_close(step.state.snr[0], ends)
        free = step.state.z.flatten(1)
        tokens = denoiser.sample(num, generator(2))
        seen = observe(denoiser.codebook, tokens, ends.expand(num, 5), generator(3)).z.flatten(1)
        for power in (1, 2):
            gap = (free**power).mean(0) - (seen**power).mean(0)
            stderr = ((free**power).var(0) + (seen**power).var(0)).div(num).sqrt()
            # The walk's own bias is of order h, at most ends / 25.
            assert (gap.abs() < 5.5 * stderr + 0.02 * ends.max()).all()
        directions = torch.randn(10, 12, dtype=torch.float64, generator=generator(4))
        for a, b in zip((free @ directions).T, (seen @ directions).T, strict=True):
            order = torch.cat([a, b]).argsort()
            rises = torch.where(order < num, 1.0 / num, -1.0 / num).cumsum(0)
            assert float(rises.abs().max()) < 0.04
    assert compared == 3


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_spacings_rate_is_the_derivative_of_its_quantile(spacing):
    time = torch.linspace(0.01, 0.97, 50, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(spacing.quantile(time).sum(), time)
    torch.testing.assert_close(spacing.rate(time.detach()), derivative)
    ends = spacing.quantile(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends[0] == 0
    assert float(ends[1]) == pytest.approx(spacing.snr_max)


def test_a_joined_path_gives_each_part_its_share_and_ends_where_the_later_one_ends():
    path = Diffusion(Uniform(3.0)).then(Masked(), share=0.25)
    free = torch.ones(1, 8, dtype=torch.bool)
    knots = path.draw(8, free, generator(0)).stack()
    assert torch.equal(knots[:7, 0, 0], torch.linspace(0, 3, 7).double())
    assert int(knots[7].isinf().sum()) == 4
    assert path.snr_end == math.inf
    grouped = Then(Then(Diffusion(Uniform(1.0)), Diffusion(Uniform(2.0))), Decode())
    assert grouped.draw(3, free, generator(0)).stack()[:, 0, 0].tolist() == [0, 1, 2, math.inf]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("num_steps", [2, 3, 4, 9])
def test_a_joined_path_of_two_steps_or_more_takes_a_step_of_either_part(num_steps, share):
    free = torch.ones(1, 8, dtype=torch.bool)
    for second in (Masked(), Decode(), Custom(torch.tensor([0.0, 4.0, 5.0, 6.0, math.inf]))):
        path = Diffusion(Uniform(3.0)).then(second, share)
        knots = path.draw(num_steps, free, generator(0)).stack()
        assert (knots == 3.0).all(-1).any()
        assert knots[-1].isinf().all()
        if not isinstance(second, Custom):
            assert len(knots) - 1 <= num_steps


@pytest.mark.parametrize(("num_steps", "share", "first"), [
    (2, 0.99, 1), (10, 0.99, 1), (10, 0.01, 9), (10, 0.7, 3), (3, 0.5, 1), (1, 0.5, 0),
])  # fmt: skip
def test_a_joined_path_shares_all_its_steps_and_leaves_at_least_one_to_either_part(
    num_steps, share, first
):
    free = torch.ones(1, 4, dtype=torch.bool)
    path = Diffusion(Uniform(3.0)).then(Diffusion(Uniform(90.0)), share)
    knots = path.draw(num_steps, free, generator(0)).stack()[:, 0, 0]
    assert len(knots) == num_steps + 1
    assert int((knots <= 3.0).sum()) - 1 == first
    expected = [3 * n / max(first, 1) for n in range(first + 1)]
    legs = num_steps - first
    expected += [max(3.0 if first else 0.0, 90 * n / legs) for n in range(1, legs + 1)]
    assert knots.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_rounding_carries_no_time_past_the_end_of_a_part(share):
    free, tokens = torch.ones(1, 8, dtype=torch.bool), 8
    ends = torch.tensor([math.nextafter(1 - share, 0), math.nextafter(1, 0)], dtype=torch.float64)
    # Seven legs, in each of which a token jumps; the eighth token is left for the second path.
    legs = Custom(torch.zeros(8, 8).masked_fill(torch.ones(8, 8).tril(-1).bool(), math.inf))
    first_jumps = legs.then(Diffusion(Uniform(3.0)), share).at(ends[:1], free, generator(0))
    last_jumps = Diffusion(Uniform(3.0)).then(Masked(), share).at(ends[1:], free, generator(0))
    for point, rate in ((first_jumps, 7 / (1 - share)), (last_jumps, tokens / share)):
        assert int((point.jump > 0).sum()) == 1
        assert float(point.jump.sum()) == pytest.approx(rate)


def test_a_leg_of_a_custom_path_to_infinity_stays_where_it_began_and_jumps_once():
    # Two legs: γ rises from 0 to 3 at speed 6, then waits at 3 for a jump at rate 2.
    path = Custom(torch.tensor([0.0, 3.0, math.inf]))
    free = torch.tensor([[True, False]])
    rising, jumping = (
        path.at(torch.tensor([time]).double(), free, generator(0)) for time in (0.25, 0.8)
    )
    assert (rising.snr[0, 0], jumping.snr[0, 0]) == (1.5, 3.0)
    assert (rising.speed.tolist(), jumping.speed.tolist()) == ([[6.0, 0.0]], [[0.0, 0.0]])
    assert (rising.jump.tolist(), jumping.jump.tolist()) == ([[0.0, 0.0]], [[2.0, 0.0]])


def test_a_token_jumps_from_the_end_of_a_rolling_window_while_the_next_are_on_their_way():
    length, window = 6, 3
    path = Rolling(window, Uniform(9.0))
    for token in range(length):
        # The last quarter of the time belongs to the jumps, an equal share of it to each token.
        time = torch.tensor([0.75 + 0.25 * (token + 0.5) / length], dtype=torch.float64)
        point = path.at(time, torch.ones(1, length, dtype=torch.bool), generator(0))
        waits = [9.0 * (1 - ahead / window) for ahead in range(window)] + [0.0] * length
        expected = [math.inf] * token + waits[: length - token]
        assert point.snr[0].tolist() == pytest.approx(expected)
        assert point.jump[0].nonzero().flatten().tolist() == [token]
        assert float(point.jump.sum()) == pytest.approx(4.0 * length)
        assert not bool(point.speed.any())


def test_a_masked_walk_reveals_equal_groups_and_a_fixed_order_is_kept():
    free = torch.ones(3, 8, dtype=torch.bool)
    revealed = Masked().draw(4, free, generator(0)).stack().isinf().sum(-1)
    assert revealed.tolist() == [[0] * 3, [2] * 3, [4] * 3, [6] * 3, [8] * 3]
    order = (3, 1, 0, 2)
    knots = Autoregressive(order).draw(4, free[:1, :4], generator(0)).stack()[:, 0]
    assert [int(knots[n + 1].isinf().long().sub(knots[n].isinf().long()).argmax())
            for n in range(4)] == list(order)  # fmt: skip


def test_an_isolated_path_costs_no_more_calls_than_it_has_tokens_to_decide():
    denoiser = WORLDS["markov chain"].denoiser
    state = start(denoiser.codebook, 2, 4)
    drawn = sample(denoiser, state, Follow(Masked()), Ancestral(), 100, generator(0))
    assert drawn.denoiser_calls == 4
    finite = Follow(Diffusion(Uniform(5.0)))
    assert sample(denoiser, state, finite, Euler(), 3, generator(0)).denoiser_calls == 4
    assert (
        sample(denoiser, state, Follow(Diffusion()), Euler(), 3, generator(0)).denoiser_calls == 3
    )


def test_a_walk_at_low_temperature_finds_the_most_likely_first_token():
    denoiser = Tempered(WORLDS["full support"].denoiser, 1e-3)
    state = start(denoiser.codebook, 8, 3)
    tokens = sample(denoiser, state, Follow(Autoregressive()), Ancestral(), 3, generator(0)).tokens
    assert (tokens == tokens[0]).all()


@pytest.mark.parametrize(
    ("mistake", "reason"),
    [
        (lambda: Uniform(0.0), "positive"),
        (lambda: Geometric(math.inf), "positive"),
        (lambda: Lomax(snr_max=-1.0), "positive"),
        (lambda: Autoregressive((0, 0)), "permutation"),
        (lambda: Block(0, Masked()), "at least one token"),
        (lambda: Block(2, Diffusion(Uniform(3.0))), "Decode"),
        (lambda: Block(2, Masked()).draw(2, FREE, generator(0)), "at least 3 steps"),
        (lambda: Rolling(0), "at least one token"),
        (lambda: Custom(torch.tensor([1.0, 2.0])), "first at 0"),
        (lambda: Custom(torch.tensor([0.0, 2.0, 1.0])), "never decrease"),
        (lambda: Custom(torch.zeros(2, 2, 2)), "a grid"),
        (lambda: Custom(torch.zeros(2, 5)).draw(1, FREE, generator(0)), "for 5 tokens"),
        (lambda: Diffusion(Uniform(3.0)).then(Decode(), share=1.0), "share"),
        (lambda: Autoregressive((1, 0)).draw(2, FREE, generator(0)), "2 positions"),
    ],
)
def test_a_mistake_is_refused_with_one_clear_sentence(mistake, reason):
    with pytest.raises(ValueError, match=reason) as raised:
        mistake()
    assert "\n" not in str(raised.value)


def test_a_vocabulary_of_one_token_and_a_sequence_of_one_token_are_worlds_too():
    from stochloc.core import ExactDenoiser

    denoiser = ExactDenoiser(SimplexCodebook(1).double(), torch.zeros(1, 1, dtype=torch.long))
    state = start(denoiser.codebook, 3, 1)
    for name, path in PATHS.items():
        drawn = sample(denoiser, state, Follow(path), Euler(), 3, generator(0))
        assert (drawn.tokens == 0).all(), name
