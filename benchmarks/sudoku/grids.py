"""Random full grids of Sudoku: a file to train on, one grid of 81 digits a line.

A grid is found by a search that tries digits in random order, then moved about by symmetries: the
digits renamed, bands and the rows within them shuffled, the same for columns, a reflection. Every
grid can come out, and those of one class of symmetry are equally likely; the search itself prefers
some classes a little to others.

    python benchmarks/sudoku/grids.py --number 200000 --seed 1 > grids.txt
"""

import argparse
import sys
from random import Random

import numpy as np
from rules import BLANK, CELLS, as_text
from solver import solutions

COPIES = 20
"""Grids made from each that was searched for."""


def random_grids(number: int, seed: int) -> np.ndarray:
    """Return full grids.

    Args:
        number: How many, at least 1.
        seed: Of all random choices.

    Returns:
        Digits from 1 to 9, `(number, 81)`, int8. About 3,000 grids a second.
    """
    random, generator = Random(seed), np.random.default_rng(seed)
    blank = np.full(CELLS, BLANK, dtype=np.int8)
    originals = [next(solutions(blank, random)) for _ in range(-(-number // COPIES))]
    grids = np.repeat(np.stack(originals), COPIES, 0)
    # Copies of one grid do not follow one another.
    return moved(grids, generator)[generator.permutation(len(grids))[:number]]


def moved(grids: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return grids or puzzles after symmetries of their own, drawn uniformly.

    Args:
        grids: Digits from 0 (blank) to 9, `(B, 81)`.
        generator: Source of the symmetries.

    Returns:
        Grids of which each is full, valid or uniquely solvable if the one given is.
    """
    count = len(grids)
    rows, columns = (_shuffled_lines(count, generator) for _ in range(2))
    places = rows[:, :, None] * 9 + columns[:, None, :]
    reflected = generator.random(count) < 0.5
    places = np.where(reflected[:, None, None], places.transpose(0, 2, 1), places)
    names = np.zeros((count, 10), dtype=np.int8)
    names[:, 1:] = generator.permuted(np.tile(np.arange(1, 10), (count, 1)), axis=1)
    at_places = np.take_along_axis(grids, places.reshape(count, CELLS), 1)
    return np.take_along_axis(names, at_places.astype(np.int64), 1)


def _shuffled_lines(count: int, generator: np.random.Generator) -> np.ndarray:
    """Return orders of nine lines that keep bands of three together, `(count, 9)`."""
    bands = generator.permuted(np.tile(np.arange(3), (count, 1)), axis=1)
    within = generator.permuted(np.tile(np.arange(3), (count, 3, 1)), axis=2)
    return (bands[:, :, None] * 3 + within).reshape(count, 9)


def main() -> None:
    """Write grids to stdout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for grid in random_grids(arguments.number, arguments.seed):
        sys.stdout.write(as_text(grid) + "\n")


if __name__ == "__main__":
    main()
