"""The 27 symbols of text8."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int64, UInt8

from stochloc.data.cleaning import SYMBOLS, clean
from stochloc.data.codepoints import decode_utf8
from stochloc.data.tokenizers.protocol import PlainText, TokenIds, checked


@final
@dataclass(frozen=True)
class Text8Tokenizer(PlainText):
    """The 27 symbols of text8: space is 0, `a` to `z` are 1 to 26.

    Any text is first cleaned as text8 was: A-Z become lower case, digits are spelled out (` zero `
    to ` nine `), every run of other characters becomes one space. Clean text stays as it is.

    References:
        Mahoney (2006), About the Test Data, http://mattmahoney.net/dc/textdata.html, appendix A.
    """

    @property
    def vocabulary_size(self) -> int:
        """Space and 26 letters."""
        return len(SYMBOLS)

    @property
    def is_byte_level(self) -> bool:
        """False: a token is a character."""
        return False

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the ids of the cleaned text, shape (characters of the cleaned text,)."""
        return clean(text, after_space=False).astype(np.int64)

    def decode(self, ids: TokenIds) -> str:
        """Return the cleaned text with these ids.

        Args:
            ids: numbers from 0 to 26.

        Returns:
            As many characters as ids.

        Raises:
            ValueError: an id is outside 0 .. 26.
        """
        letters = np.frombuffer(SYMBOLS, dtype=np.uint8)
        return letters[checked(ids, self.vocabulary_size)].tobytes().decode("ascii")

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[UInt8[np.ndarray, " tokens"]]:
        """Yield ids chunk by chunk as `uint8`.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Yields:
            Ids; joined, those of the whole text.

        Raises:
            ValueError: the bytes are not UTF-8.
        """
        after_space = False
        for text in decode_utf8(chunks):
            ids = clean(text, after_space)
            if ids.size:
                after_space = bool(ids[-1] == 0)
                yield ids

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the position of the character that each symbol comes from, before cleaning."""
        found, after_space = list[int](), False
        for place, character in enumerate(text):
            ids = clean(character, after_space)
            found += [place] * len(ids)
            after_space = bool(ids[-1] == 0) if ids.size else after_space
        return np.array(found, dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return the kind."""
        return {"kind": "text8"}
