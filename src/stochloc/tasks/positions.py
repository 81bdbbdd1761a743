"""Positions as a user names them: by a word, as a grid, or by a file of coordinates."""

import json
import re
from pathlib import Path
from typing import Any

from stochloc.nn.places import as_table

# Room for a million places of a few coordinates each.
MOST_BYTES = 64 * 2**20


def read_positions(given: str) -> str:
    """Return positions as a line that a recipe takes and keeps (`nn.places`).

    Args:
        given: Such a line, or `learned`, or a file with the coordinates of every place of a text:
            a row of whole numbers for each, as CSV, with a heading or without, or as a JSON list
            of lists.

    Returns:
        The line; of a file, one that holds its numbers.

    Raises:
        ValueError: The file holds no such table.
    """
    path = Path(given)
    if not path.is_file():
        return given
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} is larger than any table of coordinates.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text, so it holds no coordinates.") from None
    rows = _from_json(text, path) if path.suffix.lower() == ".json" else _from_lines(text, path)
    try:
        return as_table(rows)
    except ValueError as error:
        raise ValueError(f"{path} holds no coordinates of places: {error}") from None


def _from_lines(text: str, path: Path) -> list[list[int]]:
    lines = text.rstrip().splitlines()
    has_heading = bool(lines) and not re.search(r"\d", lines[0])
    rows = []
    for number, line in enumerate(lines[has_heading:], start=1 + has_heading):
        cells = re.split(r"\s*[,;\t]\s*|\s+", line.strip())
        if not all(re.fullmatch(r"-?[0-9]{1,18}", cell) for cell in cells):
            raise ValueError(
                f"Line {number} of {path} holds {line.strip()[:40]!r} where the coordinates of a "
                "place are wanted, whole numbers with commas between them."
            )
        rows.append([int(cell) for cell in cells])
    if not rows:
        raise ValueError(f"{path} holds no coordinates.")
    return rows


def _from_json(text: str, path: Path) -> list[list[int]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} holds no list of the coordinates of every place.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or not row or not all(map(_is_whole, row)):
            raise ValueError(
                f"Entry {number} of {path} is {json.dumps(row)[:40]} where a list of whole numbers "
                "is wanted, the coordinates of a place."
            )
    return rows


def _is_whole(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int) and not isinstance(value, bool)
