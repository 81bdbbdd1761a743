"""What a tokenizer is.

Tasks use the properties of a tokenizer, never its class. One that turns plain text into tokens
inherits `PlainText`; labels (`data.tokenizers.labelled`) and slots (`data.tokenizers.slotted`) are
laid around any other.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, Integer

from stochloc.data.tokenizers.slots import Slots

TokenIds = Sequence[int] | Integer[np.ndarray, " tokens"] | Integer[torch.Tensor, " tokens"]


@runtime_checkable
class Tokenizer(Protocol):
    """Turns text into token ids and back."""

    @property
    def vocabulary_size(self) -> int:
        """The number of different tokens, **V**."""
        ...

    @property
    def is_character_level(self) -> bool:
        """Whether one token is one character, so that bits per token are bits per character."""
        ...

    @property
    def is_byte_level(self) -> bool:
        """Whether one token of text is one byte, so that any file can be read, UTF-8 or not."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, whose tokens are the last of the vocabulary; () for none."""
        ...

    @property
    def slots(self) -> Slots | None:
        """The slots that texts are laid out in; None where texts have no gaps."""
        ...

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the token ids of a text."""
        ...

    def decode(self, ids: TokenIds) -> str:
        """Return the text that token ids stand for."""
        ...

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield token ids of UTF-8 bytes: joined, those of the whole text."""
        ...

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return, for every token of a text, the position of the character it comes from."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `tokenizer_from_dict` makes an equal tokenizer."""
        ...


class PlainText:
    """The defaults of a tokenizer whose tokens are all text: it has neither labels nor slots."""

    @property
    def labels(self) -> tuple[str, ...]:
        """None: every token is text."""
        return ()

    @property
    def slots(self) -> None:
        """None: texts have no gaps."""
        return


def token_dtype(vocabulary_size: int) -> np.dtype[Any]:
    """Return the smallest unsigned integer type that holds all ids of a vocabulary."""
    return np.min_scalar_type(vocabulary_size - 1)


def _checked(ids: TokenIds, vocabulary_size: int) -> Int64[np.ndarray, " tokens"]:
    values = ids.cpu().numpy() if isinstance(ids, torch.Tensor) else ids
    array = np.asarray(values, dtype=np.int64)
    if array.size and not (array.min() >= 0 and array.max() < vocabulary_size):
        raise ValueError(
            f"Token ids from {array.min()} to {array.max()} cannot be decoded; they must lie in "
            f"0 .. {vocabulary_size - 1}."
        )
    return array
