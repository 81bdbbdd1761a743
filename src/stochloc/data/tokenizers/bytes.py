"""One token per byte of UTF-8."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int64, UInt8

from stochloc.data.tokenizers.protocol import PlainText, TokenIds, checked


@final
@dataclass(frozen=True)
class ByteTokenizer(PlainText):
    """One token per byte of the UTF-8 text; any file can be encoded."""

    @property
    def vocabulary_size(self) -> int:
        """The 256 bytes."""
        return 256

    @property
    def is_byte_level(self) -> bool:
        """True: any file is made of bytes."""
        return True

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the UTF-8 bytes of a text, shape (bytes,); escaped bytes stand for themselves."""
        raw = text.encode("utf-8", "surrogateescape")
        return np.frombuffer(raw, dtype=np.uint8).astype(np.int64)

    def decode(self, ids: TokenIds) -> str:
        """Return the text of UTF-8 bytes, with U+FFFD where they are not UTF-8.

        Args:
            ids: bytes, numbers from 0 to 255.

        Returns:
            The text; a generated sequence need not be valid UTF-8, so this never fails on bytes.

        Raises:
            ValueError: an id is outside 0 .. 255.
        """
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: TokenIds) -> bytes:
        """Return the bytes themselves, UTF-8 or not."""
        return checked(ids, self.vocabulary_size).astype(np.uint8).tobytes()

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[UInt8[np.ndarray, " tokens"]]:
        """Yield the bytes themselves as `uint8`; they need not be UTF-8."""
        return (np.frombuffer(chunk, dtype=np.uint8) for chunk in chunks)

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the position of every byte's character."""
        lengths = [len(character.encode("utf-8", "surrogateescape")) for character in text]
        return np.repeat(np.arange(len(text)), np.array(lengths, dtype=np.int64))

    def to_dict(self) -> dict[str, Any]:
        """Return the kind."""
        return {"kind": "bytes"}
