"""All solutions of a puzzle, by exact cover on sets of bits.

A candidate (cell, digit) is one of 729 bits. A solution picks one candidate for each of 324
requirements: a digit for every cell, and a place for every digit in every row, column and box. The
requirement with the fewest candidates left is met first; of one candidate it is forced, of none the
branch is dead. That is both "only one digit fits here" and "it fits nowhere else".
"""

from collections.abc import Iterator
from random import Random

import numpy as np
from rules import BLANK, CELLS, UNITS

ALL = (1 << CELLS * 9) - 1


def _requirements() -> list[int]:
    of_cells = [sum(1 << cell * 9 + digit for digit in range(9)) for cell in range(CELLS)]
    of_units = [
        sum(1 << int(cell) * 9 + digit for cell in unit) for unit in UNITS for digit in range(9)
    ]
    return of_cells + of_units


REQUIREMENTS = _requirements()
MET_BY = [[k for k in range(len(REQUIREMENTS)) if REQUIREMENTS[k] >> c & 1] for c in range(729)]
EXCLUDED_BY = []
for candidate in range(729):
    others = 0
    for requirement in MET_BY[candidate]:
        others |= REQUIREMENTS[requirement]
    EXCLUDED_BY.append(ALL & ~others | 1 << candidate)


def candidate_of(cell: int, digit: int) -> int:
    """Return the number of the candidate that puts a digit from 1 to 9 into a cell."""
    return cell * 9 + digit - 1


def solutions(
    puzzle: np.ndarray, random: Random | None = None, excluded: int = 0
) -> Iterator[np.ndarray]:
    """Yield the solutions of a puzzle one after another.

    Args:
        puzzle: Digits from 0 (blank) to 9, `(81,)`.
        random: Source of the order in which candidates are tried; None for ascending digits.
        excluded: Bits of candidates that must not be picked.

    Yields:
        Full grids, int8. A puzzle of few givens may have very many.
    """
    alive, open_ones = ALL & ~excluded, set(range(len(REQUIREMENTS)))
    for cell in np.flatnonzero(puzzle != BLANK).tolist():
        candidate = candidate_of(cell, int(puzzle[cell]))
        if not alive >> candidate & 1:
            return
        alive &= EXCLUDED_BY[candidate]
        open_ones.difference_update(MET_BY[candidate])
    yield from _search(alive, open_ones, random)


def is_unique(puzzle: np.ndarray) -> bool:
    """Return whether a puzzle has exactly one solution."""
    found = solutions(puzzle)
    return next(found, None) is not None and next(found, None) is None


def _search(alive: int, open_ones: set[int], random: Random | None) -> Iterator[np.ndarray]:
    while open_ones:
        fewest, bits = 10, 0
        for requirement in open_ones:
            left = alive & REQUIREMENTS[requirement]
            number = left.bit_count()
            if number < fewest:
                fewest, bits = number, left
                if number <= 1:
                    break
        if fewest == 0:
            return
        if fewest > 1:
            for candidate in _in_order(bits, random):
                rest = open_ones.difference(MET_BY[candidate])
                yield from _search(alive & EXCLUDED_BY[candidate], rest, random)
            return
        candidate = bits.bit_length() - 1
        alive &= EXCLUDED_BY[candidate]
        open_ones.difference_update(MET_BY[candidate])
    grid = np.zeros(CELLS, dtype=np.int8)
    for candidate in _bits(alive):
        grid[candidate // 9] = candidate % 9 + 1
    yield grid


def _in_order(bits: int, random: Random | None) -> list[int]:
    candidates = list(_bits(bits))
    if random is not None:
        random.shuffle(candidates)
    return candidates


def _bits(bits: int) -> Iterator[int]:
    while bits:
        yield (bits & -bits).bit_length() - 1
        bits &= bits - 1
