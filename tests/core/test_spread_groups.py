"""Groups that are spread over the text: how far apart, how equal, how much less they lose."""

import itertools
import math

import pytest
import torch
from core.worlds import LONG, generator

from stochloc.core import (
    Ancestral,
    Apart,
    Custom,
    Euler,
    Follow,
    Interleaved,
    RevealApart,
    Spread,
    StepCosts,
    bound,
    line_integral,
    measure_step_costs,
    start,
)
from stochloc.core.paths.spread import draw_turns, turns_of_classes
from stochloc.core.policies.apart import choose_apart, largest_distance


def turns(length: int, groups: int, rows: int = 40) -> torch.Tensor:
    free = torch.ones(rows, length, dtype=torch.bool)
    return draw_turns(torch.full((rows, 1), groups), free, generator(length * 100 + groups))


@pytest.mark.parametrize("length", range(1, 71))
def test_groups_are_equal_within_one_and_as_far_apart_as_groups_of_n_can_be(length):
    # Of N + 1 tokens in a row two share a group: no N groups have a larger smallest distance.
    for groups in range(1, length + 1):
        for row in turns(length, groups, 3).tolist():
            sizes = [row.count(turn) for turn in range(groups)]
            assert max(sizes) - min(sizes) <= 1
            assert sum(sizes) == length
            near = {abs(a - b) for a, b in itertools.combinations(range(length), 2)
                    if row[a] == row[b]}  # fmt: skip
            assert min(near, default=groups) == groups


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 8, 12, 33, 64])
def test_known_classes_are_spread_at_every_turn_and_bit_reversed_at_powers_of_two(groups):
    order = turns_of_classes(groups).argsort().tolist()
    assert sorted(order) == list(range(groups))
    for num in range(2, groups + 1):
        known = sorted(order[:num])
        gaps = [b - a for a, b in itertools.pairwise([*known, known[0] + groups])]
        # Intervals are halved in turn, so no gap is more than 2 times another, up to rounding.
        assert max(gaps) <= 2 * min(gaps) + 2
    bits = groups.bit_length() - 1
    if groups == 2**bits and bits:
        assert order == [int(f"{turn:0{bits}b}"[::-1], 2) for turn in range(groups)]


@pytest.mark.parametrize(("length", "groups"), [(7, 3), (6, 6), (10, 4), (5, 2)])
def test_every_token_is_equally_likely_in_every_group(length, groups):
    # 40,000 offsets: a share is known to 0.0025 at most; 5.5 errors, 70 numbers: below 1e-5.
    seen = turns(length, groups, 40_000)
    for turn in range(groups):
        shares = (seen == turn).double().mean(0)
        assert ((shares - 1 / groups).abs() < 5.5 * 0.5 / math.sqrt(40_000)).all()


def test_only_free_tokens_are_counted_so_the_blanks_of_an_infilling_are_spread_over_the_blanks():
    free = torch.rand(30, 40, generator=generator(1)) < 0.4
    knots = Spread().draw(4, free, generator(2))
    assert torch.equal(knots.steps, free.sum(-1, keepdim=True).clamp(max=4))
    for n in range(4):
        due = knots.snr(n + 1).isinf() & knots.snr(n).isfinite()
        assert not bool((due & ~free).any())
        for row in range(30):
            blanks = free[row].nonzero().flatten().tolist()
            ranks = [blanks.index(i) for i in due[row].nonzero().flatten().tolist()]
            assert all(b - a == 4 for a, b in itertools.pairwise(ranks))
            assert len(blanks) // 4 <= len(ranks) <= -(-len(blanks) // 4)


def test_with_as_many_steps_as_tokens_the_walk_is_a_permutation_and_its_bound_minus_log_p():
    knots = Spread().draw(9, torch.ones(5, 6, dtype=torch.bool), generator(0))
    assert knots.num_steps == 6
    assert (knots.stack().isinf().sum(-1) == torch.arange(7)[:, None]).all()
    walk = bound(LONG, LONG.sequences, Follow(Spread()), Euler(), 6, generator(1))
    torch.testing.assert_close(walk.values, -LONG.log_prob(LONG.sequences), atol=1e-9, rtol=0)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 5])
def test_the_bound_of_spread_groups_is_one_for_every_offset(num_steps):
    # Without noise and with a common offset, exp(-bound) is the law of the walk: it adds up to 1.
    for seed in range(num_steps):
        knots = Spread().draw(num_steps, torch.ones(1, 6, dtype=torch.bool), generator(seed))
        path = Custom(knots.stack()[:, 0])
        walk = bound(LONG, LONG.sequences, Follow(path), Ancestral(), 1, generator(0))
        assert float((-walk.values).exp().sum()) == pytest.approx(1, abs=1e-9)
        loss = (LONG.log_prior.exp() * (walk.values + LONG.log_prior)).sum()
        assert float(loss) > -1e-12


def expected_nats(turn: list[int]) -> float:
    """Expected bound of a walk that decides tokens in turns, exactly, on the long chain."""
    groups = torch.tensor(turn)
    knots = [torch.zeros(6).masked_fill(groups < n, torch.inf) for n in range(max(turn) + 2)]
    path = Follow(Custom(torch.stack(knots)))
    walk = bound(LONG, LONG.sequences, path, Ancestral(), 1, generator(0))
    return float((LONG.log_prior.exp() * walk.values).sum())


def test_on_a_markov_chain_spread_groups_lose_a_fraction_of_what_random_groups_lose():
    """Both expectations are exact: over all three offsets, and over all ways to draw groups."""
    entropy = float(torch.special.entr(LONG.log_prior.exp()).sum())
    rows = {tuple(row) for row in turns(6, 3, 60).tolist()}
    assert len(rows) == 3
    spread = sum(expected_nats(list(row)) for row in rows) / 3 - entropy
    ways = set(itertools.permutations([0, 0, 1, 1, 2, 2]))
    random = sum(expected_nats(list(way)) for way in ways) / len(ways) - entropy
    assert 0 < spread < 0.5 * random, (spread, random)


@pytest.mark.parametrize("path", [
    Spread(), Interleaved((0.0, 0.5, 1.0), (0.0, 0.0, 0.0), Apart(2)),
])  # fmt: skip
def test_an_integral_along_spread_paths_is_minus_log_p_also_where_a_token_is_given(path):
    # 12,000 sequences: 5 errors. A rate or order off by one costs a token, tens of errors.
    tokens = LONG.sample(12_000, generator(1))
    third = torch.zeros(2).double().index_add(0, LONG.sequences[:, 2], LONG.log_prior.exp()).log()
    known = torch.where(torch.arange(6) == 2, tokens, -1)
    for given, exact in (
        (None, LONG.log_prob(tokens)),
        (known, LONG.log_prob(tokens) - third[tokens[:, 2]]),
    ):
        values = line_integral(LONG, tokens, path, 4, generator(2), given).values + exact
        assert abs(float(values.mean())) < 5 * float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_shares_of_groups_apart_are_the_spread_groups_of_fewer_steps(groups):
    free = torch.ones(50, 29, dtype=torch.bool)
    places = Apart(64).places(free, generator(3))
    for part in range(groups):
        due = (places >= part / groups) & (places < (part + 1) / groups)
        for row in due:
            at = row.nonzero().flatten()
            assert (at.diff() == groups).all()
            assert 29 // groups <= len(at) <= -(-29 // groups)


def test_a_tuned_order_of_spread_groups_costs_what_its_walk_costs_and_no_more_than_pure_groups():
    # 6,000 sequences on both sides: errors of 0.01 nats per token in each.
    known, snr = torch.arange(4) / 4, torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0])
    order, measured = Apart(4), LONG.sample(6000, generator(1))
    costs = measure_step_costs(
        LONG, measured, Ancestral(), known, snr, generator(2), order=order
    )  # fmt: skip
    tokens = LONG.sample(6000, generator(3))
    for steps in (2, 4):
        shares = tuple(n / steps for n in range(steps + 1))
        pure, best = Interleaved(shares, (0.0,) * (steps + 1), order), costs.best_path(steps, order)
        assert costs.cost(best) <= costs.cost(pure) + 1e-12
        for path in (pure, best):
            walk = bound(LONG, tokens, Follow(path), Ancestral(), steps, generator(4))
            assert walk.denoiser_calls <= steps
            assert abs(walk.mean / 6 - costs.cost(path)) < 0.04


def test_a_step_pays_for_the_parts_it_decides_and_for_the_rise_of_those_behind_them():
    decide = torch.tensor([[[1.0, 5.0], [0.8, 4.0]], [[0.0, 3.0], [0.0, 2.0]]]).double()
    rise = torch.full((2, 2, 2, 2), math.inf).double()
    for share in range(2):
        rise[share].diagonal().zero_()
        rise[share, 0, 1] = torch.tensor([0.3 * (1 - share), 0.7])
    rise[:, 0, 0] = rise[:, 1, 1] = 0
    costs = StepCosts(torch.tensor([0.0, 0.5]), torch.tensor([0.0, 1.0]), decide, rise)
    for known, snr, expected in (
        ((0.0, 0.5, 1.0), (0.0, 0.0, 0.0), 1.0 + 3.0),
        ((0.0, 0.5, 1.0), (0.0, 1.0, 1.0), 1.0 + 0.7 + 2.0),
        ((0.0, 0.0, 0.5, 1.0), (0.0, 1.0, 1.0, 1.0), 0.3 + 0.7 + 0.8 + 2.0),
    ):
        assert costs.cost(Interleaved(known, snr)) == pytest.approx(expected)


def all_choices(unknown: list[int], num: int, apart: int) -> list[tuple[int, ...]]:
    return [
        chosen
        for chosen in itertools.combinations(unknown, num)
        if all(b - a >= apart for a, b in itertools.pairwise(chosen))
    ]


def test_the_tokens_chosen_apart_are_the_most_certain_of_all_choices_far_enough_apart():
    certainty = torch.rand(60, 9, generator=generator(0)).double()
    unknown = torch.rand(60, 9, generator=generator(1)) < 0.8
    unknown[:, 4] = True
    num = (unknown.sum(-1, keepdim=True) * torch.rand(60, 1, generator=generator(2))).long() + 1
    num = torch.minimum(num, unknown.sum(-1, keepdim=True))
    together = choose_apart(certainty, unknown, num)
    for row in range(60):
        places, count = unknown[row].nonzero().flatten().tolist(), int(num[row])
        largest = max(d for d in range(1, 10) if all_choices(places, count, d))
        assert int(largest_distance(unknown[[row]], num[[row]])) == largest
        choices = all_choices(places, count, largest // 2 + 1)
        best = max(choices, key=lambda chosen: float(certainty[row, list(chosen)].log().sum()))
        assert together[row].nonzero().flatten().tolist() == list(best)
        alone = choose_apart(certainty[[row]], unknown[[row]], num[[row]])
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("num_steps", [2, 3, 5])
def test_no_two_neighbours_are_decided_in_one_step_while_it_can_be_avoided(num_steps):
    state = start(LONG.codebook, 4, 6)
    pace = RevealApart().start(state, num_steps, generator(0))
    for n in range(num_steps):
        posterior, unknown = LONG(state), ~state.is_known
        chosen = pace.dsnr(n, state, posterior).isinf()
        num = int(chosen.sum(-1)[0])
        assert num == 6 * (n + 1) // num_steps - 6 * n // num_steps
        assert not bool((chosen & ~unknown).any())
        for row in range(4):
            if all_choices(unknown[row].nonzero().flatten().tolist(), num, 2):
                assert not bool((chosen[row, 1:] & chosen[row, :-1]).any())
        state = state.reveal(posterior.sample(generator(n)), chosen)
    assert state.is_finished


def test_equally_certain_tokens_are_chosen_from_the_left():
    unknown = torch.tensor([[True] * 8, [False, True, True, True, True, True, False, True]])
    chosen = choose_apart(torch.full((2, 8), 0.5), unknown, torch.tensor([[3], [2]]))
    # Largest distances 3 and 6, so 2 and 4 apart at least.
    assert [row.nonzero().flatten().tolist() for row in chosen] == [[0, 2, 4], [1, 5]]
