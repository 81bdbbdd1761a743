"""What tokenizers that are laid around another have in common.

Each adds tokens above those of the texts, which stand for no text: labels, a boundary, an empty
slot. What the texts are made of is left to the tokenizer inside.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer

from stochloc.data.tokenizers.parts import Parts
from stochloc.data.tokenizers.protocol import TokenIds, Tokenizer, checked


@dataclass(frozen=True)
class AroundText:
    """A tokenizer of texts with further tokens, which `decode` leaves out.

    Args:
        inner: the tokenizer of the texts.
    """

    inner: Tokenizer

    @property
    def vocabulary_size(self) -> int:
        """The tokens of the texts and one more, **V**."""
        return self.inner.vocabulary_size + 1

    @property
    def is_byte_level(self) -> bool:
        """Whether the texts are read as bytes."""
        return self.inner.is_byte_level

    @property
    def parts(self) -> Parts:
        """What the texts' tokenizer knows or does not know."""
        return self.inner.parts

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the token ids of a text, without the further tokens."""
        return self.inner.encode(text)

    def decode(self, ids: TokenIds) -> str:
        """Return the text that token ids stand for; the further ones stand for nothing."""
        return self.inner.decode(self._of_text(ids))

    def decode_bytes(self, ids: TokenIds) -> bytes:
        """Return the bytes that token ids stand for; the further ones stand for nothing."""
        return self.inner.decode_bytes(self._of_text(ids))

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield token ids of UTF-8 bytes, without the further tokens."""
        return self.inner.encode_stream(chunks)

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return, for every token of a text, the position of the character it comes from."""
        return self.inner.places(text)

    def _of_text(self, ids: TokenIds) -> Int64[np.ndarray, " text"]:
        array = checked(ids, self.vocabulary_size)
        return array[array < self.inner.vocabulary_size]
