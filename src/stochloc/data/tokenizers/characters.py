"""One token per character of an alphabet."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from jaxtyping import Int64, Integer, UInt32

from stochloc.data.codepoints import code_points, decode_utf8, discover_alphabet
from stochloc.data.normalisation import PlainBytes
from stochloc.data.tokenizers.protocol import PlainText, TokenIds, checked, token_dtype
from stochloc.data.tokenizers.unknown import UnknownCharacters, unknown_at


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

    @classmethod
    def for_text(cls, chunks: Iterable[bytes]) -> "CharacterTokenizer":
        """Return the tokenizer of all characters of a training text, without CR and marks.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Returns:
            The tokenizer; ids are in the order of code points.

        Raises:
            ValueError: the bytes are not UTF-8, or there are none.
        """
        return cls(discover_alphabet(PlainBytes(chunks)))

    @classmethod
    def for_records(cls, records: Iterable[str]) -> "CharacterTokenizer":
        """Return the tokenizer of all characters of the training texts.

        Args:
            records: the texts, each a sequence; between them there is nothing.

        Returns:
            The tokenizer; ids are in the order of code points.

        Raises:
            ValueError: there are no characters.
        """
        return cls.for_text(record.encode("utf-8", "surrogatepass") for record in records)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "CharacterTokenizer":
        """Return the tokenizer of the alphabet in `facts`.

        Args:
            facts: with an `alphabet`.

        Returns:
            An equal tokenizer.

        Raises:
            KeyError, TypeError, ValueError: there is no alphabet, or not a text.
        """
        if not isinstance(facts["alphabet"], str):
            raise TypeError("The alphabet is not a text.")
        return cls(facts["alphabet"])

    @property
    def vocabulary_size(self) -> int:
        """The number of characters in the alphabet."""
        return len(self.alphabet)

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
            UnknownCharactersError: a character is not in the alphabet; with its position, from 0.
        """
        ids = self._look_up(text)
        if ids.size and ids.min() < 0:
            place = int(np.argmax(ids < 0))
            raise unknown_at(place, text[place], self.parts, self._known)
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
        codes = self._codes[checked(ids, self.vocabulary_size)]
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
        dtype, unknown = token_dtype(self.vocabulary_size), UnknownCharacters(self.parts)
        for text in decode_utf8(chunks):
            ids = self._look_up(text)
            unknown.look_at(text, [(n, text[n]) for n in np.flatnonzero(ids < 0).tolist()])
            if not unknown.counts:
                yield ids.astype(dtype)
        unknown.refuse(self._known)

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

    @property
    def _known(self) -> str:
        return f"the {self.vocabulary_size} characters of the alphabet"
