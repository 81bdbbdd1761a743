"""A tokenizer of sequences, each with a beginning and an end.

A sequence of n tokens of text is `boundary x_1 ... x_n boundary`. The boundary is always known: it
says where a text begins and ends, is never a target and never sampled, and stands for no text. As
with labels, `encode` returns the tokens of text alone; `data.sequences` sets the boundaries.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int64, Integer

from stochloc.data.tokenizers.parts import Parts
from stochloc.data.tokenizers.protocol import TokenIds, Tokenizer, checked


@final
@dataclass(frozen=True)
class SequenceTokenizer:
    """A tokenizer with one more token, the boundary before and after every sequence.

    Args:
        inner: the tokenizer of the texts.

    Raises:
        ValueError: the inner tokenizer has labels, slots or a boundary of its own.
    """

    inner: Tokenizer

    def __post_init__(self) -> None:
        if self.inner.labels or self.inner.slots is not None or self.inner.boundary is not None:
            raise ValueError("Boundaries are set around plain text, not around labels or slots.")

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "SequenceTokenizer":
        """Return the tokenizer whose `to_dict` gave these facts, with `inner` already remade.

        Args:
            facts: the tokenizer `inner`.

        Returns:
            An equal tokenizer.

        Raises:
            KeyError, TypeError, ValueError: the facts are not those of this kind.
        """
        if not isinstance(facts["inner"], Tokenizer):
            raise TypeError("There is no inner tokenizer.")
        return cls(facts["inner"])

    @property
    def vocabulary_size(self) -> int:
        """The tokens of the texts and the boundary, **V**."""
        return self.inner.vocabulary_size + 1

    @property
    def is_byte_level(self) -> bool:
        """Whether the texts are read as bytes."""
        return self.inner.is_byte_level

    @property
    def parts(self) -> Parts:
        """What the texts' tokenizer knows or does not know."""
        return self.inner.parts

    @property
    def labels(self) -> tuple[str, ...]:
        """None: labels are laid around a tokenizer of sequences."""
        return ()

    @property
    def boundary(self) -> int:
        """The token before and after every sequence, above those of the texts."""
        return self.inner.vocabulary_size

    @property
    def slots(self) -> None:
        """None: sequences are not laid out in slots."""
        return

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the token ids of a text, without boundaries."""
        return self.inner.encode(text)

    def decode(self, ids: TokenIds) -> str:
        """Return the text that token ids stand for; boundaries stand for nothing."""
        return self.inner.decode(self._text(ids))

    def decode_bytes(self, ids: TokenIds) -> bytes:
        """Return the bytes that token ids stand for; boundaries stand for nothing."""
        return self.inner.decode_bytes(self._text(ids))

    def _text(self, ids: TokenIds) -> np.ndarray:
        array = checked(ids, self.vocabulary_size)
        return array[array != self.boundary]

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield token ids of UTF-8 bytes, without boundaries."""
        return self.inner.encode_stream(chunks)

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return, for every token of a text, the position of the character it comes from."""
        return self.inner.places(text)

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and the inner tokenizer's facts."""
        return {"kind": "sequences", "inner": self.inner.to_dict()}
