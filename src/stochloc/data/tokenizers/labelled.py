"""A tokenizer with labels of classes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int64, Integer

from stochloc.data.tokenizers.parts import Parts
from stochloc.data.tokenizers.protocol import TokenIds, Tokenizer, checked
from stochloc.data.tokenizers.slots import Slots


@final
@dataclass(frozen=True)
class LabelledTokenizer:
    """A tokenizer with an additional token for every class; labels stand for no text.

    Args:
        inner: the tokenizer of the texts.
        labels: the names of the classes, in the order of their tokens.

    Raises:
        ValueError: a name is empty or given twice.
    """

    inner: Tokenizer
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            raise ValueError(f"Labels are a tuple of names, not the one name {self.labels!r}.")
        if not all(self.labels) or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"The classes need different names, not {', '.join(self.labels)}.")

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "LabelledTokenizer":
        """Return the tokenizer whose `to_dict` gave these facts, with `inner` already remade.

        Args:
            facts: the tokenizer `inner` and a list of `labels`.

        Returns:
            An equal tokenizer.

        Raises:
            KeyError, TypeError, ValueError: the facts are not those of this kind.
        """
        if not isinstance(facts["inner"], Tokenizer) or not isinstance(facts["labels"], list):
            raise TypeError("There is no inner tokenizer, or no list of labels.")
        return cls(facts["inner"], tuple(map(str, facts["labels"])))

    @property
    def vocabulary_size(self) -> int:
        """The tokens of the texts and the labels, **V**."""
        return self.inner.vocabulary_size + len(self.labels)

    @property
    def is_byte_level(self) -> bool:
        """Whether the texts are read as bytes."""
        return self.inner.is_byte_level

    @property
    def boundary(self) -> int | None:
        """The token before and after every sequence, if the texts are sequences."""
        return self.inner.boundary

    @property
    def parts(self) -> Parts:
        """What the texts' tokenizer knows or does not know."""
        return self.inner.parts

    @property
    def slots(self) -> Slots | None:
        """The slots of the texts, if they are laid out in some."""
        return self.inner.slots

    def is_label(self, ids: Integer[np.ndarray, "*shape"]) -> np.ndarray:
        """Return where the tokens are labels."""
        return np.asarray(ids) >= self.inner.vocabulary_size

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the token ids of a text, without a label."""
        return self.inner.encode(text)

    def decode(self, ids: TokenIds) -> str:
        """Return the text that token ids stand for; labels stand for nothing."""
        return self.inner.decode(self._text(ids))

    def decode_bytes(self, ids: TokenIds) -> bytes:
        """Return the bytes that token ids stand for; labels stand for nothing."""
        return self.inner.decode_bytes(self._text(ids))

    def _text(self, ids: TokenIds) -> np.ndarray:
        array = checked(ids, self.vocabulary_size)
        return array[~self.is_label(array)]

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield token ids of UTF-8 bytes, without a label."""
        return self.inner.encode_stream(chunks)

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return, for every token of a text, the position of the character it comes from."""
        return self.inner.places(text)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `tokenizer_from_dict` makes an equal tokenizer."""
        return {"kind": "labelled", "inner": self.inner.to_dict(), "labels": list(self.labels)}
