"""The tools of the Sudoku page: grids, puzzles, the solver, and what counts as solved."""

from random import Random

import numpy as np
import pytest
import torch
from board import Board
from grids import moved, random_grids
from puzzles import puzzle_from, unique_puzzles
from rules import BLANK, CELLS, UNITS, as_text, is_solved, read_puzzles
from solver import is_unique, solutions
from torch import Tensor
from ways import Unfinished, solve, ways

from stochloc.core import DensePosterior, SimplexCodebook, State
from stochloc.data.tokenizers.characters import CharacterTokenizer

pytestmark = pytest.mark.bulk


def by_trial(puzzle: np.ndarray) -> int:
    """The number of solutions, found by filling cells from the left."""
    blanks = np.flatnonzero(puzzle == BLANK)
    if len(blanks) == 0:
        return int(is_solved(puzzle[None], puzzle[None])[0])
    cell, count = blanks[0], 0
    peers = np.unique(UNITS[(cell == UNITS).any(1)])
    for digit in set(range(1, 10)) - set(puzzle[peers].tolist()):
        filled = puzzle.copy()
        filled[cell] = digit
        count += by_trial(filled)
    return count


def test_random_grids_obey_the_rules_and_a_seed_fixes_them():
    grids = random_grids(60, 3)
    assert is_solved(grids, grids).all()
    assert len(np.unique(grids, axis=0)) == 60
    assert np.array_equal(grids, random_grids(60, 3))
    assert not np.array_equal(grids, random_grids(60, 4))


def test_a_symmetry_keeps_the_number_of_solutions_and_a_cell_goes_to_every_place():
    puzzle = puzzle_from(random_grids(1, 0)[0], 30, Random(0))
    others = moved(np.tile(puzzle, (400, 1)), np.random.default_rng(1))
    assert all(is_unique(other) for other in others[:20])
    assert (np.count_nonzero(others, axis=1) == 30).all()
    # Of 400 draws each cell is missed by all with a probability of 1e-59.
    marked = np.zeros((400, CELLS), dtype=np.int8)
    marked[:, 40] = 5
    places, digits = np.nonzero(moved(marked, np.random.default_rng(2)))[1], range(1, 10)
    assert len(set(places.tolist())) > 75
    assert set(moved(marked, np.random.default_rng(2)).max(1).tolist()) == set(digits)


@pytest.mark.parametrize("digits", [(1, 2), (3, 5, 8)])
def test_the_solver_finds_as_many_solutions_as_trying_everything(digits):
    for grid in random_grids(4, 5):
        puzzle = np.where(np.isin(grid, digits), BLANK, grid)
        found = list(solutions(puzzle))
        assert len({as_text(solution) for solution in found}) == len(found) == by_trial(puzzle)
        assert is_solved(np.stack(found), np.tile(puzzle, (len(found), 1))).all()


def test_contradictory_givens_have_no_solution():
    puzzle = np.zeros(CELLS, dtype=np.int8)
    puzzle[[0, 8]] = 4
    assert next(solutions(puzzle), None) is None
    assert not is_unique(puzzle)


@pytest.mark.parametrize("givens", [27, 34, 60])
def test_made_puzzles_have_the_givens_asked_for_and_one_solution(givens):
    puzzles = unique_puzzles(3, givens, 1)
    assert (np.count_nonzero(puzzles, axis=1) == givens).all()
    assert all(is_unique(puzzle) for puzzle in puzzles)


def test_of_a_puzzle_with_as_few_givens_as_can_be_none_can_be_spared():
    puzzle = puzzle_from(random_grids(1, 2)[0], 17, Random(1))
    for cell in np.flatnonzero(puzzle):
        fewer = puzzle.copy()
        fewer[cell] = BLANK
        assert not is_unique(fewer)


def test_a_grid_is_solved_if_it_obeys_the_rules_and_keeps_the_givens():
    grid = random_grids(1, 0)
    puzzle = np.where(np.arange(CELLS) % 3 == 0, grid, BLANK)
    swapped, blank, renamed = grid.copy(), grid.copy(), grid % 9 + 1
    swapped[0, [0, 1]] = swapped[0, [1, 0]]
    blank[0, 4] = BLANK
    assert is_solved(grid, puzzle).all()
    assert is_solved(renamed, np.zeros_like(puzzle)).all()
    for wrong in (swapped, blank, renamed):
        assert not is_solved(wrong, puzzle).any()


def test_puzzles_are_read_with_any_mark_for_blanks_and_what_is_none_is_refused():
    text = as_text(np.arange(CELLS) % 10)
    assert np.array_equal(
        read_puzzles([text, "", text.replace(".", "_")])[0] % 10, np.arange(81) % 10
    )
    for wrong in (text[1:], "x" + text[1:]):
        with pytest.raises(ValueError, match="Line 2"):
            read_puzzles([text, wrong])


def test_grids_come_back_from_tokens_whatever_the_alphabet():
    puzzles = unique_puzzles(2, 30, 0)
    board = Board.of(CharacterTokenizer("987654321 "))
    known = board.tokens_of(puzzles)
    assert ((known == -1) == (torch.from_numpy(puzzles) == BLANK)).all()
    assert np.array_equal(board.grids_of(known), puzzles)
    assert (board.grids_of(torch.full((1, CELLS), 9)) == BLANK).all()


class SinglesOnly:
    """Knows which digits a cell's units have, and where a digit fits nowhere else; counts rows."""

    codebook = SimplexCodebook(9)

    def __init__(self) -> None:
        self.units, self.rows = torch.from_numpy(UNITS), []
        self.peers = (self.units[:, :, None] == torch.arange(CELLS)).any(1).float()
        self.peers = ((self.peers.T @ self.peers) > 0).float() - torch.eye(CELLS)

    def __call__(self, state: State) -> DensePosterior:
        self.rows.append(len(state.known))
        digits = torch.arange(9)
        known = (state.known[..., None] == digits).float()
        fits = (torch.einsum("ij,bjv->biv", self.peers, known) == 0).float()
        fits = torch.where(state.is_known[..., None], known, fits)
        logits: Tensor = 9 * fits
        for unit in self.units:
            alone = fits[:, unit].sum(1, keepdim=True) == 1
            logits[:, unit] += 9 * alone * fits[:, unit]
        return DensePosterior.from_logits(logits + state.z, state.known, self.codebook)


def test_backtracking_solves_what_surest_first_does_not_and_counts_the_calls_of_each_puzzle():
    puzzles = np.stack(
        [puzzle_from(grid, 17, Random(k)) for k, grid in enumerate(random_grids(12, 8))]
    )
    board = Board(tuple(range(9)))
    outcomes = {}
    for way in ("surest first, all above 0.99", "backtracking"):
        denoiser = SinglesOnly()
        outcomes[way] = solve(denoiser, board, puzzles, ways(board)[way](200), 200, 0)
        # Only unfinished puzzles are asked about, and every one of them pays.
        assert sum(denoiser.rows) == outcomes[way].calls.sum()
        assert (outcomes[way].calls <= 200).all()
    plain, search = outcomes.values()
    assert search.solved.all()
    assert plain.solved.mean() < 0.8
    assert is_solved(search.grids, puzzles).all()


def test_no_more_calls_are_made_than_were_allowed():
    blank = np.zeros((2, CELLS), dtype=np.int8)
    board = Board(tuple(range(9)))
    outcome = solve(SinglesOnly(), board, blank, ways(board)["backtracking"](7), 7, 0)
    assert (outcome.calls == 7).all()


def test_what_is_finished_is_not_asked_about():
    denoiser = SinglesOnly()
    known = torch.stack([torch.zeros(CELLS).long(), torch.full((CELLS,), -1)])
    z = torch.zeros(2, CELLS, 9)
    posterior = Unfinished(denoiser)(State(z, known, z[..., 0]))
    assert denoiser.rows == [1]
    assert (posterior.mode[0] == 0).all()
