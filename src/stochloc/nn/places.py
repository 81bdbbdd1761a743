"""The meaning of places: which coordinates each token of a text has, written as one line.

In prose a place means nothing by itself, and rotary positions say how far two tokens are apart. In
a form, a puzzle or a score it does: the row, the column and the box of a cell, the voice and the
beat of a note. Such coordinates are whole numbers, a row of them for each token of the text:

    rotary              none
    learned:30          one, the number of the token: 0, 1, ..., 29
    grid:9x9            two, row and column of a cell, row after row
    grid:9x9:3x3        three, its box as well: boxes of 3 rows and 3 columns, row after row
    table:0,1;0,2;1,0   any, those of each token in turn

A line of text goes into a model's flat configuration as it is, and means the same everywhere.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

ROTARY, LEARNED = "rotary", "learned"
MOST_PLACES, MOST_COORDINATES, LARGEST_COORDINATE = 10**6, 64, 10**6 - 1
GRID = r"([0-9]{1,4})x([0-9]{1,4})(?::([0-9]{1,4})x([0-9]{1,4}))?"

Coordinates = tuple[tuple[int, ...], ...]


@lru_cache(maxsize=8)
def coordinates(positions: str) -> Coordinates:
    """Return the coordinates of every token of a text, in order.

    Args:
        positions: A line as above.

    Returns:
        Equally many whole numbers for each token, at least 0; none at all for `rotary`.

    Raises:
        ValueError: The line is none of these, or describes no table of up to a million places.
    """
    kind, _, rest = positions.partition(":")
    table = _KINDS[kind](rest) if kind in _KINDS else None
    if table is not None:
        return table
    raise ValueError(
        f"There are no positions {positions[:40]!r}: they are {ROTARY}, {LEARNED}, a grid such as "
        "grid:9x9 or grid:9x9:3x3, or a file with the coordinates of every place."
    )


def as_table(rows: Sequence[Sequence[int]]) -> str:
    """Return the line that describes a table of coordinates.

    Args:
        rows: The coordinates of each token, equally many for all.

    Returns:
        A line as above, of the kind `table`.

    Raises:
        ValueError: It is no such table.
    """
    _checked_number(len(rows))
    if any(not 0 <= number <= LARGEST_COORDINATE for row in rows for number in row):
        raise ValueError(f"Coordinates are whole numbers from 0 to {LARGEST_COORDINATE}.")
    if any(len(row) == 0 for row in rows):
        raise ValueError("Every place has a coordinate at least.")
    line = "table:" + ";".join(",".join(map(str, row)) for row in rows)
    coordinates(line)
    return line


def follows_the_text(positions: str) -> bool:
    """Return whether tokens that adjoin in the text adjoin in what positions describe.

    Args:
        positions: A line as above.

    Returns:
        True of `rotary` and `learned`, False of grids and tables.
    """
    return positions.partition(":")[0] in (ROTARY, LEARNED)


def _without(rest: str) -> Coordinates | None:
    return None if rest else ()


def _numbered(rest: str) -> Coordinates | None:
    if not re.fullmatch(r"[0-9]{1,9}", rest):
        return None
    return tuple((n,) for n in range(_checked_number(int(rest))))


def _grid(rest: str) -> Coordinates | None:
    sizes = re.fullmatch(GRID, rest)
    if sizes is None:
        return None
    rows, columns, *box = (int(size) for size in sizes.groups() if size is not None)
    return _boxed(rows, columns, *box) if box else _cells(rows, columns)


def _cells(rows: int, columns: int) -> Coordinates:
    _checked_number(rows * columns)
    return tuple((row, column) for row in range(rows) for column in range(columns))


def _boxed(rows: int, columns: int, high: int, wide: int) -> Coordinates:
    cells = _cells(rows, columns)
    if not (high and wide) or rows % high or columns % wide:
        raise ValueError(f"Boxes of {high}x{wide} do not fill a grid of {rows}x{columns}.")
    across = columns // wide
    return tuple((row, column, row // high * across + column // wide) for row, column in cells)


def _listed(rest: str) -> Coordinates | None:
    if not re.fullmatch(r"[0-9]{1,6}(?:[,;][0-9]{1,6})*", rest):
        return None
    return _checked(tuple(tuple(map(int, row.split(","))) for row in rest.split(";")))


def _checked_number(num: int) -> int:
    if not 1 <= num <= MOST_PLACES:
        raise ValueError(f"A text has 1 to {MOST_PLACES} places with coordinates, not {num}.")
    return num


def _checked(rows: Coordinates) -> Coordinates:
    _checked_number(len(rows))
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"Row {number} of the coordinates has {len(row)} numbers, the first one "
                f"{len(rows[0])}."
            )
    if len(rows[0]) > MOST_COORDINATES:
        raise ValueError(f"A place has at most {MOST_COORDINATES} coordinates.")
    return rows


_KINDS = {ROTARY: _without, LEARNED: _numbered, "grid": _grid, "table": _listed}
