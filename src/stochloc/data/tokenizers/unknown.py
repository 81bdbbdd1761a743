"""Characters, or words, that a tokenizer does not know: how it says which, and where.

In a string a place is a position, in a file a line and a character in it, all of them counted from
1, as editors do. All unknown parts of a file are counted, so that one message tells what there is
to clean.
"""

from collections.abc import Iterable

from stochloc.data.texts import UnknownCharactersError
from stochloc.data.tokenizers.parts import Parts

# Unknown parts that a message lists, and characters of one that it shows.
MOST_SHOWN, MOST_CHARACTERS = 10, 60


def unknown_at(position: int, part: str, parts: Parts, known: str) -> UnknownCharactersError:
    """Return the error about the first unknown part of a string.

    Args:
        position: of the part's first character, from 0.
        part: the unknown character, or word.
        parts: what it is.
        known: what the tokenizer knows, to follow "is not among": "the letters A, C, G and T".

    Returns:
        The error, to be raised by `encode`.
    """
    return _error(part, f"position {position + 1}, counted from 1,", parts, known)


class UnknownCharacters:
    """Counts the unknown parts of a text that is read in pieces, and where the first one is.

    Args:
        parts: what is known or unknown.

    Attributes:
        counts: how often each occurs, in the order of their first occurrence.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.counts: dict[str, int] = {}
        self._line, self._column, self._first = 1, 1, ""

    def look_at(self, text: str, unknown: Iterable[tuple[int, str]]) -> None:
        """Count in the next piece of the text.

        Args:
            text: the piece.
            unknown: its unknown parts with their positions in it, from left to right.
        """
        for place, part in unknown:
            if not self.counts:
                line, column = self._after(text[:place])
                self._first = f"line {line}, character {column}"
            self.counts[part] = self.counts.get(part, 0) + 1
        self._line, self._column = self._after(text)

    def refuse(self, known: str) -> None:
        """Raise an error if there was an unknown part, and do nothing otherwise.

        Args:
            known: what the tokenizer knows, to follow "is not among".

        Raises:
            UnknownCharactersError: there was one; with its line and place there, from 1.
        """
        if self.counts:
            raise _error(next(iter(self.counts)), self._described(), self._parts, known)

    def _described(self) -> str:
        total = sum(self.counts.values())
        if total == 1:
            return self._first
        shown = ", ".join(map(_shown, list(self.counts)[:MOST_SHOWN]))
        more = ", ..." if len(self.counts) > MOST_SHOWN else ""
        return f"{self._first} (the first of {total} unknown ones: {shown}{more})"

    def _after(self, text: str) -> tuple[int, int]:
        breaks = text.count("\n")
        column = len(text) - text.rfind("\n") if breaks else self._column + len(text)
        return self._line + breaks, column


def _shown(part: str) -> str:
    return repr(part if len(part) <= MOST_CHARACTERS else f"{part[:MOST_CHARACTERS]}...")


def _error(part: str, where: str, parts: Parts, known: str) -> UnknownCharactersError:
    return UnknownCharactersError(
        f"The {parts.name} {_shown(part)} at {where} is not among {known}; remove it from the "
        "text, or use a tokenizer that knows it."
    )
