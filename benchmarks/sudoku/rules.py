"""The rules of Sudoku: 27 units of nine cells, each of which has every digit once.

A grid is 81 digits by rows, 0 where a cell is blank.
"""

import numpy as np

CELLS, BLANK = 81, 0
_ROW, _COLUMN = np.divmod(np.arange(CELLS), 9)
_BOX = _ROW // 3 * 3 + _COLUMN // 3
UNITS = np.stack([np.flatnonzero(line == k) for line in (_ROW, _COLUMN, _BOX) for k in range(9)])
"""The cells of rows, columns and boxes, `(27, 9)`."""


def is_solved(grids: np.ndarray, puzzles: np.ndarray) -> np.ndarray:
    """Return which grids obey the rules and keep the givens of their puzzles.

    Nothing else is asked: no solution is looked at, so where a puzzle has several each one counts.

    Args:
        grids: Digits from 1 to 9, `(B, 81)`; anything else is no solution.
        puzzles: Digits from 0 (blank) to 9, `(B, 81)`.

    Returns:
        Booleans, `(B,)`.
    """
    every_digit_once = (np.sort(grids[:, UNITS], -1) == np.arange(1, 10)).all((1, 2))
    return every_digit_once & ((grids == puzzles) | (puzzles == BLANK)).all(1)


def read_puzzles(lines: list[str]) -> np.ndarray:
    """Return puzzles from lines of 81 characters, digits, and `.`, `_` or `0` where blank.

    Args:
        lines: One puzzle each; empty lines are ignored.

    Returns:
        Digits from 0 to 9, `(B, 81)`, int8.

    Raises:
        ValueError: A line is no puzzle.
    """
    puzzles = []
    for number, line in enumerate(lines, 1):
        text = line.strip().replace(".", "0").replace("_", "0")
        if not text:
            continue
        if len(text) != CELLS or not (text.isascii() and text.isdigit()):
            raise ValueError(f"Line {number} is no puzzle of {CELLS} digits and blanks.")
        puzzles.append([int(character) for character in text])
    return np.array(puzzles, dtype=np.int8).reshape(-1, CELLS)


def as_text(grid: np.ndarray) -> str:
    """Return a grid as a line, `.` where it is blank."""
    return "".join("." if digit == BLANK else str(digit) for digit in grid)
