"""Puzzles with one solution and a chosen number of givens, one a line.

Givens of a random full grid are taken away in random order, each that the others determine, until
as many are left as were asked for. Where no more can go too many are left, and another grid is
tried: 23 to 26 is where most puzzles end, so below 22 the wait is long, and 17 is out of reach.

    python benchmarks/sudoku/puzzles.py --givens 31 --number 100 --seed 1 > puzzles.txt
"""

import argparse
import sys
from random import Random

import numpy as np
from grids import random_grids
from rules import BLANK, CELLS, as_text
from solver import candidate_of, solutions

FEWEST = 17


def puzzle_from(grid: np.ndarray, givens: int, random: Random) -> np.ndarray:
    """Return a puzzle whose only solution is a grid.

    Args:
        grid: Digits from 1 to 9, `(81,)`.
        givens: Digits to keep, from 17 to 81.
        random: Source of the order in which givens are taken away.

    Returns:
        Digits from 0 (blank) to 9, `(81,)`; more than `givens` of them are left if none of those
        can be spared.
    """
    puzzle = grid.copy()
    for cell in random.sample(range(CELLS), CELLS):
        if np.count_nonzero(puzzle) == givens:
            break
        puzzle[cell] = BLANK
        # The grid is the only solution with its own digit here, so any other has another.
        others = solutions(puzzle, excluded=1 << candidate_of(cell, int(grid[cell])))
        if next(others, None) is not None:
            puzzle[cell] = grid[cell]
    return puzzle


def unique_puzzles(number: int, givens: int, seed: int) -> np.ndarray:
    """Return puzzles of different grids, each with one solution.

    Args:
        number: How many, at least 1.
        givens: Digits in each, from 17 to 81.
        seed: Of all random choices.

    Returns:
        Digits from 0 (blank) to 9, `(number, 81)`, int8.
    """
    random, found = Random(seed), []
    while len(found) < number:
        grids = random_grids(number, random.randrange(2**32))
        puzzles = (puzzle_from(grid, givens, random) for grid in grids)
        found += [puzzle for puzzle in puzzles if np.count_nonzero(puzzle) == givens]
    return np.stack(found[:number])


def main() -> None:
    """Write puzzles to stdout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--givens", type=int, default=31)
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not FEWEST <= arguments.givens <= CELLS:
        parser.error(f"A puzzle has from {FEWEST} to {CELLS} givens.")
    for puzzle in unique_puzzles(arguments.number, arguments.givens, arguments.seed):
        sys.stdout.write(as_text(puzzle) + "\n")


if __name__ == "__main__":
    main()
