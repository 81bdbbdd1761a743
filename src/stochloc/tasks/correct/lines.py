"""Correcting sequences, one a line: each by itself, with positions counted in the whole text."""

import re
from collections.abc import Callable
from dataclasses import replace

from stochloc.tasks.correct.correction import Correction

_BREAK = re.compile("\r\n|\r|\n")


def is_several(text: str) -> bool:
    """Return whether a text has several lines."""
    return _BREAK.search(text) is not None


def correct_lines(text: str, correct_line: Callable[[str], Correction]) -> Correction:
    """Correct every line of a text by itself.

    Args:
        text: The text as read; empty lines stay as they are.
        correct_line: Corrects one line that is not empty.

    Returns:
        The corrected lines, joined by line breaks; calls and times are added up.

    Raises:
        ValueError: A line cannot be corrected; the message says which. Or all are empty.
    """
    begins = [0, *(found.end() for found in _BREAK.finditer(text))]
    lines = _BREAK.split(text)
    parts = dict[int, Correction]()
    for number, line in enumerate(lines):
        if line:
            try:
                parts[number] = correct_line(line)
            except ValueError as error:
                raise ValueError(f"Line {number + 1}: {error}") from error
    if not parts:
        raise ValueError("There is no text to correct.")
    changes = (
        replace(change, position=begins[number] + change.position)
        for number, part in parts.items()
        for change in part.changes
    )
    every = list(parts.values())
    return replace(
        every[0],
        text="\n".join(parts[n].text if n in parts else "" for n in range(len(lines))),
        read="\n".join(parts[n].read if n in parts else "" for n in range(len(lines))),
        content=b"\n".join(parts[n].content if n in parts else b"" for n in range(len(lines))),
        changes=tuple(changes),
        denoiser_calls=sum(part.denoiser_calls for part in every),
        seconds=sum(part.seconds for part in every),
        notes=tuple(dict.fromkeys(note for part in every for note in part.notes)),
    )
