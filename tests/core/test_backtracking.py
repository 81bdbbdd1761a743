"""Backtracking: what a wrong guess costs, what it teaches, and that nothing solvable is missed.

The puzzles are Latin squares of three digits and Sudokus of four, whose denoiser knows only which
digits a cell's own units have already: it infers single candidates and guesses elsewhere.
"""

import itertools

import pytest
import torch
from core.worlds import generator
from torch import Tensor

from stochloc.core import (
    UNKNOWN,
    AllDifferent,
    Ancestral,
    Backtrack,
    DensePosterior,
    RevealAbove,
    SimplexCodebook,
    State,
    Step,
    localize,
    start,
)

pytestmark = pytest.mark.bulk

ROWS = [list(range(4 * k, 4 * k + 4)) for k in range(4)]
COLUMNS = [list(range(k, 16, 4)) for k in range(4)]
BOXES = [[b, b + 1, b + 4, b + 5] for b in (0, 2, 8, 10)]
SUDOKU = AllDifferent([*ROWS, *COLUMNS, *BOXES])
GRID = torch.tensor([0, 1, 2, 3, 2, 3, 0, 1, 1, 0, 3, 2, 3, 2, 1, 0])


class Local:
    """A denoiser that rules out the digits of a cell's units and else prefers a digit a little."""

    def __init__(self, rule: AllDifferent, size: int) -> None:
        self.rule, self.codebook = rule, SimplexCodebook(size).double()

    def __call__(self, state: State) -> DensePosterior:
        pairs = self.rule.pairs
        ruled_out = torch.zeros(*state.known.shape, self.codebook.vocabulary_size)
        for a, b in [*pairs.tolist(), *pairs.flip(-1).tolist()]:
            rows = state.is_known[:, b].nonzero().squeeze(-1)
            ruled_out[rows, a, state.known[rows, b]] = 1
        favour = 0.1 * torch.arange(self.codebook.vocabulary_size)
        logits = state.z - 30 * ruled_out + favour
        return DensePosterior.from_logits(logits.double(), state.known, self.codebook)


class MostLikely(Ancestral):
    def step(self, state, posterior, dsnr, generator):
        return state.reveal(posterior.mode, dsnr.isinf() & ~state.is_known)


def solved_by(policy, known: Tensor, rule: AllDifferent, size: int, steps: int) -> list[State]:
    state = start(SimplexCodebook(size).double(), *known.shape, known=known)
    walk = localize(Local(rule, size), state, policy, MostLikely(), steps, generator(0))
    return [step.state for step in walk]


def test_all_different_names_the_tokens_that_occur_twice_in_a_unit_and_no_others():
    rule = AllDifferent([(0, 1, 2), (2, 3)])
    for known in itertools.product((UNKNOWN, 0, 1), repeat=4):
        expected = [
            value != UNKNOWN
            and any(
                place in unit and any(known[b] == value for b in unit if b != place)
                for unit in rule.units
            )
            for place, value in enumerate(known)
        ]
        assert rule.broken(torch.tensor([known]))[0].tolist() == expected


def test_a_place_whose_units_have_all_values_is_out_of_them():
    rule = AllDifferent([(0, 1, 2), (2, 3)], num_values=2)
    for known in itertools.product((UNKNOWN, 0, 1), repeat=4):
        texts = torch.tensor([known])
        peers = [{1, 2}, {0, 2}, {0, 1, 3}, {2}]
        out = [known[k] == UNKNOWN and {known[b] for b in peers[k]} >= {0, 1} for k in range(4)]
        twice = AllDifferent(rule.units).broken(texts)[0].tolist()
        expected = [a or b for a, b in zip(out, twice, strict=True)]
        assert rule.broken(texts)[0].tolist() == expected


@pytest.mark.parametrize("units", [[(0,)], [(1, 1)], [(0, -1)], [()]])
def test_units_that_say_nothing_are_refused(units):
    with pytest.raises(ValueError, match="unit"):
        AllDifferent(units)


def test_every_sudoku_of_four_with_a_solution_is_solved_where_the_walk_without_it_fails_often():
    """Of 60 random puzzles the plain walk solves some, the search all: it is complete."""
    draw = torch.rand(60, 16, generator=generator(1))
    known = torch.where(draw.argsort(-1).argsort(-1) < 4, GRID, UNKNOWN)
    plain = solved_by(RevealAbove(0.99), known, SUDOKU, 4, 200)[-1].known
    found = solved_by(Backtrack(SUDOKU, 0.99), known, SUDOKU, 4, 200)[-1].known
    assert not SUDOKU.broken(found).any()
    assert torch.equal(found[known != UNKNOWN], known[known != UNKNOWN])
    assert SUDOKU.broken(plain).any(-1).double().mean() > 0.05


class Stubborn:
    """A denoiser whose logits for 1 against 0 are given; the last cell may copy the first."""

    def __init__(self, logits: list[float], copies: bool = False) -> None:
        self.logits, self.copies = torch.tensor(logits).double(), copies
        self.codebook = SimplexCodebook(2).double()

    def __call__(self, state: State) -> DensePosterior:
        for_one = self.logits.expand(state.known.shape).clone()
        if self.copies:
            first = torch.where(state.is_known[:, 0], 2.0 * state.known[:, 0] - 1, 0.0)
            for_one[:, -1] = 12 * first
        logits = state.z + torch.stack([torch.zeros_like(for_one), for_one], -1)
        return DensePosterior.from_logits(logits, state.known, self.codebook)


def walked(denoiser, rule, length: int, threshold: float = 0.99) -> list[Step]:
    state = start(denoiser.codebook, 1, length)
    policy = Backtrack(rule, threshold)
    return list(localize(denoiser, state, policy, MostLikely(), 20, generator(0)))


def test_a_wrong_guess_goes_with_what_followed_and_its_value_is_refuted_by_evidence():
    # The second cell is surely 1, the last copies the first and must differ from the second.
    steps = walked(Stubborn([0.4, 12.0, 0.0], copies=True), AllDifferent([(1, 2)]), 3)
    known = [step.before.known[0].tolist() for step in steps]
    assert known == [[-1, -1, -1], [-1, 1, -1], [1, 1, -1], [-1, 1, -1], [0, 1, -1]]
    assert steps[-1].state.known.tolist() == [[0, 1, 0]]
    # Evidence of 30 nats against 1, at the guess alone, which did not gain any SNR.
    gaps = [(step.before.z[0, :, 0] - step.before.z[0, :, 1]).tolist() for step in steps]
    assert gaps == [[0, 0, 0]] * 3 + [[30, 0, 0], [0, 0, 0]]
    assert (steps[3].before.snr[0, [0, 2]] == 0).all()


def test_a_refutation_is_forgotten_with_the_guess_it_was_found_under():
    class FirstIsZero:
        """Nothing goes with a first cell of 1."""

        def broken(self, known: Tensor) -> Tensor:
            return ((known[:, :1] == 1) & (known[:, 1:] != UNKNOWN)).expand(-1, 2)

    steps = walked(Stubborn([0.4, 0.2]), FirstIsZero(), 2)
    known = [step.before.known[0].tolist() for step in steps]
    assert known == [[-1, -1], [1, -1], [1, -1], [-1, -1], [0, -1]]
    # Under the first guess 1 was refuted in the second cell; without it 1 is the likelier again.
    assert steps[-1].state.known.tolist() == [[0, 1]]


def test_a_value_that_the_context_has_all_but_excluded_is_not_tried():
    class OfThree:
        """Guesses 1 first; given it, the second cell is 0, 1 or 2 by 98, 1.2 and 0.8 %."""

        codebook = SimplexCodebook(3).double()

        def __call__(self, state: State) -> DensePosterior:
            probs = torch.tensor([[0.4, 0.59, 0.01], [0.3, 0.35, 0.35]]).double()[None]
            after_one = torch.tensor([0.98, 0.012, 0.008]).double()
            if int(state.known[0, 0]) == 1:
                probs[0, 1] = after_one
            return DensePosterior.from_logits(state.z + probs.log(), state.known, self.codebook)

    class NotAfterOne:
        def broken(self, known: Tensor) -> Tensor:
            return ((known[:, :1] == 1) & (known[:, 1:] != UNKNOWN)).expand(-1, 2)

    steps = walked(OfThree(), NotAfterOne(), 2, threshold=0.985)
    known = [step.before.known[0].tolist() for step in steps]
    # 0 and 1 are tried under the guess; 2, of 0.8 %, is not: that call sends the guess back.
    assert known[:5] == [[-1, -1], [1, -1], [1, -1], [1, -1], [-1, -1]]
    assert steps[-1].state.known[0, 0] == 0


def test_what_no_guess_explains_is_blamed_on_the_least_confident_decision():
    class Wrong(Local):
        """Sure of 1 in both cells, less so in the second, which must be 0."""

        def __call__(self, state: State) -> DensePosterior:
            logits = state.z + torch.tensor([[0.0, 12.0], [0.0, 6.0]])
            return DensePosterior.from_logits(logits.double(), state.known, self.codebook)

    rule = AllDifferent([(0, 1)])
    denoiser = Wrong(rule, 2)
    state = start(denoiser.codebook, 1, 2)
    walk = localize(denoiser, state, Backtrack(rule, 0.99), MostLikely(), 10, generator(0))
    assert list(walk)[-1].state.known.tolist() == [[1, 0]]


def test_given_tokens_that_break_the_rule_are_kept_and_the_walk_ends():
    known = torch.tensor([[1, 1, UNKNOWN]])
    states = solved_by(
        Backtrack(AllDifferent([(0, 1), (1, 2)])), known, AllDifferent([(0, 1)]), 2, 9
    )
    assert states[-1].is_finished
    assert states[-1].known[0, :2].tolist() == [1, 1]


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        Backtrack(SUDOKU, threshold)
