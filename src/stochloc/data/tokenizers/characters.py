"""One token per character of an alphabet."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt32

from stochloc.data.codepoints import code_points, decode_utf8
from stochloc.data.texts import UnknownCharactersError
from stochloc.data.tokenizers.protocol import PlainText, TokenIds, _checked, token_dtype

# Unknown characters that a message lists.
MOST_SHOWN = 10


@final
@dataclass(frozen=True)
class CharacterTokenizer(PlainText):
    """One token per character of a fixed alphabet; the id is the place in the alphabet.

    Args:
        alphabet: the distinct characters, in the order of their ids.

    Raises:
        ValueError: the alphabet is empty or repeats a character.
    """

    alphabet: str

    def __post_init__(self) -> None:
        if not self.alphabet:
            raise ValueError("The alphabet is empty; give at least one character.")
        if len(set(self.alphabet)) < len(self.alphabet):
            raise ValueError("The alphabet repeats a character; give each character once.")

    @property
    def vocabulary_size(self) -> int:
        """The number of characters in the alphabet."""
        return len(self.alphabet)

    @property
    def is_character_level(self) -> bool:
        """True: a token is a character."""
        return True

    @property
    def is_byte_level(self) -> bool:
        """False: a token is a character."""
        return False

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return one id per character.

        Args:
            text: characters of the alphabet.

        Returns:
            Ids, shape (characters,).

        Raises:
            ValueError: a character is not in the alphabet.
        """
        ids = self._look_up(text)
        if ids.size and ids.min() < 0:
            first = int(np.argmax(ids < 0))
            raise self._unknown(text[first], f"position {first}, counted from 0,")
        return ids.astype(np.int64)

    def decode(self, ids: TokenIds) -> str:
        """Return the characters with these ids.

        Args:
            ids: numbers from 0 to V - 1.

        Returns:
            As many characters as ids.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        codes = self._codes[_checked(ids, self.vocabulary_size)]
        return codes.tobytes().decode("utf-32-le", "surrogatepass")

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield ids chunk by chunk, in the smallest unsigned type that holds them.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Yields:
            Ids; joined, those of the whole text.

        Raises:
            UnknownCharactersError: characters are not in the alphabet; the message counts them.
            ValueError: the bytes are not UTF-8.
        """
        dtype, seen = token_dtype(self.vocabulary_size), _Unknown()
        for text in decode_utf8(chunks):
            ids = self._look_up(text)
            seen.look_at(text, ids < 0)
            if not seen.counts:
                yield ids.astype(dtype)
        if seen.counts:
            raise self._unknown(next(iter(seen.counts)), seen.described())

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return 0, 1, 2, ...: a token is a character."""
        return np.arange(len(text))

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and the alphabet."""
        return {"kind": "characters", "alphabet": self.alphabet}

    @cached_property
    def _codes(self) -> UInt32[np.ndarray, " vocabulary"]:
        return code_points(self.alphabet)

    @cached_property
    def _table(self) -> np.ndarray:
        # One entry beyond the largest code point: a clipped `take` sends all larger ones there.
        table = np.full(int(self._codes.max()) + 2, -1, dtype=np.int32)
        table[self._codes] = np.arange(self.vocabulary_size)
        return table

    def _look_up(self, text: str) -> Integer[np.ndarray, " tokens"]:
        """Return the ids, below 0 for characters that are not in the alphabet."""
        return self._table.take(code_points(text), mode="clip")

    def _unknown(self, character: str, where: str) -> UnknownCharactersError:
        return UnknownCharactersError(
            f"The character {character!r} at {where} is not among the {self.vocabulary_size} "
            "characters of the alphabet; remove it from the text, or use an alphabet that holds it."
        )


class _Unknown:
    """Counts the characters of a text that are not in an alphabet, and where the first one is."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.line, self.column, self.first = 1, 1, ""

    def look_at(self, text: str, is_unknown: Bool[np.ndarray, " characters"]) -> None:
        """Count in the next piece of the text."""
        places = np.flatnonzero(is_unknown)
        if len(places) and not self.counts:
            line, column = self._after(text[: places[0]])
            self.first = f"line {line}, character {column}"
        for place in places:
            self.counts[text[place]] = self.counts.get(text[place], 0) + 1
        self.line, self.column = self._after(text)

    def described(self) -> str:
        """Describe where the first one is, and which others there are."""
        total = sum(self.counts.values())
        if total == 1:
            return self.first
        shown = ", ".join(map(repr, list(self.counts)[:MOST_SHOWN]))
        more = ", ..." if len(self.counts) > MOST_SHOWN else ""
        return f"{self.first} (the first of {total} unknown ones: {shown}{more})"

    def _after(self, text: str) -> tuple[int, int]:
        breaks = text.count("\n")
        column = len(text) - text.rfind("\n") if breaks else self.column + len(text)
        return self.line + breaks, column
