"""Characters that a tokenizer does not know: how it says which, and where.

In a string a place is a position, counted from 0. In a file it is a line and a character in it,
counted from 1 as editors do. All unknown characters of a file are counted, so that one message
tells what there is to clean.
"""

import numpy as np
from jaxtyping import Bool

from stochloc.data.texts import UnknownCharactersError

# Unknown characters that a message lists.
MOST_SHOWN = 10


def unknown_at(text: str, position: int, known: str) -> UnknownCharactersError:
    """Return the error about the first unknown character of a string.

    Args:
        text: the string.
        position: of its first unknown character, from 0.
        known: what the tokenizer knows, to follow "is not among": "the letters A, C, G and T".

    Returns:
        The error, to be raised by `encode`.
    """
    return _error(text[position], f"position {position}, counted from 0,", known)


class UnknownCharacters:
    """Counts the unknown characters of a text that is read in pieces, and where the first one is.

    Attributes:
        counts: how often each occurs, in the order of their first occurrence.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._line, self._column, self._first = 1, 1, ""

    def look_at(self, text: str, is_unknown: Bool[np.ndarray, " characters"]) -> None:
        """Count in the next piece of the text.

        Args:
            text: the piece.
            is_unknown: which of its characters are unknown.
        """
        places = np.flatnonzero(is_unknown)
        if len(places) and not self.counts:
            line, column = self._after(text[: places[0]])
            self._first = f"line {line}, character {column}"
        for place in places:
            self.counts[text[place]] = self.counts.get(text[place], 0) + 1
        self._line, self._column = self._after(text)

    def refuse(self, known: str) -> None:
        """Raise an error if there was an unknown character, and do nothing otherwise.

        Args:
            known: what the tokenizer knows, to follow "is not among".

        Raises:
            UnknownCharactersError: there was one; with its line and place there, from 1.
        """
        if self.counts:
            raise _error(next(iter(self.counts)), self._described(), known)

    def _described(self) -> str:
        total = sum(self.counts.values())
        if total == 1:
            return self._first
        shown = ", ".join(map(repr, list(self.counts)[:MOST_SHOWN]))
        more = ", ..." if len(self.counts) > MOST_SHOWN else ""
        return f"{self._first} (the first of {total} unknown ones: {shown}{more})"

    def _after(self, text: str) -> tuple[int, int]:
        breaks = text.count("\n")
        column = len(text) - text.rfind("\n") if breaks else self._column + len(text)
        return self._line + breaks, column


def _error(character: str, where: str, known: str) -> UnknownCharactersError:
    return UnknownCharactersError(
        f"The character {character!r} at {where} is not among {known}; remove it from the text, or "
        "use a tokenizer that knows it."
    )
