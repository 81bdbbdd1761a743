"""Text laid out in slots, so that a change of length is a change of tokens.

A text is laid out as characters in *places*, with a *gap* before, between and after them; one
additional token, *empty*, stands for no character:

    read      _ t _ h _ q _ u _ c _ k _        (gap, place, gap, ...; _ is empty)
    meant     _ t _ h e q _ u i c _ k _        or  _ t _ h _ _ _ u _ ...

A character that was deleted is restored in a gap, and the place of one that was inserted becomes
empty. So a model of such layouts also corrects texts of the wrong length: every position has a
posterior. Clean text is laid out with empty gaps; `data.tokenizers.slots` draws training windows
from it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int64, Integer

from stochloc.data.tokenizers.around import AroundText
from stochloc.data.tokenizers.protocol import Tokenizer, token_dtype
from stochloc.data.tokenizers.slots import Slots


@final
@dataclass(frozen=True)
class SlottedTokenizer(AroundText):
    """A tokenizer whose texts have a gap before, between and after their tokens.

    Args:
        inner: the tokenizer of the texts.
        rate: the share of gaps that hold a token, and of places that hold none, in the windows
            drawn for training; in (0, 1).

    Raises:
        ValueError: the rate is outside (0, 1), or the inner tokenizer has labels or a boundary.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(
                f"The rate of changed slots must lie between 0 and 1, not be {self.rate}."
            )
        if self.inner.labels:
            raise ValueError("Texts of several classes cannot be laid out in slots.")
        if self.inner.boundary is not None:
            raise ValueError("Sequences cannot be laid out in slots.")

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "SlottedTokenizer":
        """Return the tokenizer whose `to_dict` gave these facts, with `inner` already remade.

        Args:
            facts: the tokenizer `inner` and a `rate`.

        Returns:
            An equal tokenizer.

        Raises:
            KeyError, TypeError, ValueError: the facts are not those of this kind.
        """
        if not isinstance(facts["inner"], Tokenizer) or not isinstance(facts["rate"], float):
            raise TypeError("There is no inner tokenizer, or no rate.")
        return cls(facts["inner"], facts["rate"])

    @property
    def empty(self) -> int:
        """The token that stands for no character."""
        return self.inner.vocabulary_size

    @property
    def labels(self) -> tuple[str, ...]:
        """None: texts of several classes are not laid out in slots."""
        return ()

    @property
    def boundary(self) -> None:
        """None: sequences are not laid out in slots."""
        return

    @property
    def slots(self) -> Slots:
        """The slots of the layouts."""
        return Slots(self.empty, self.rate)

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the layout of a clean text: its tokens, with empty gaps around each.

        Args:
            text: what the inner tokenizer can encode.

        Returns:
            Ids, shape (2 · tokens + 1,); none for an empty text.

        Raises:
            ValueError: the inner tokenizer cannot encode the text.
        """
        ids = self._followed_by_gaps(self.inner.encode(text))
        return np.concatenate([[self.empty], ids]).astype(np.int64) if ids.size else ids

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield the layout of a clean text chunk by chunk.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Yields:
            Ids; joined, those of the whole text.

        Raises:
            ValueError: the inner tokenizer cannot encode the bytes.
        """
        dtype, is_first = token_dtype(self.vocabulary_size), True
        for ids in self.inner.encode_stream(chunks):
            if is_first and ids.size:
                is_first = False
                yield np.array([self.empty], dtype=dtype)
            yield self._followed_by_gaps(ids).astype(dtype)

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the position of each place's character; a gap has that of the next character."""
        inner = self.inner.places(text)
        return np.append(np.repeat(inner, 2), len(text)) if inner.size else inner

    def to_dict(self) -> dict[str, Any]:
        """Return the kind, the inner tokenizer's facts and the rate."""
        return {"kind": "slotted", "inner": self.inner.to_dict(), "rate": self.rate}

    def _followed_by_gaps(self, ids: Integer[np.ndarray, " tokens"]) -> np.ndarray:
        gaps = np.full(len(ids), self.empty)
        return np.stack([ids.astype(np.int64), gaps], axis=-1).reshape(-1)
