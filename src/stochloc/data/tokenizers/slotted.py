"""Text laid out in slots, so that a change of length is a change of tokens.

A text is read as characters on *places*, with a *gap* before, between and behind them, and one more
token, *empty*, which stands for no character:

    read      _ t _ h _ q _ u _ c _ k _        (gap, place, gap, ...; _ is empty)
    meant     _ t _ h e q _ u i c _ k _        or  _ t _ h _ _ _ u _ ...

A character that was lost on the way sits in a gap, and a place where something was added is empty.
A model of such layouts repairs texts whose length is wrong by the same rule as any other: every
position has a posterior. Clean text is laid out with empty gaps; training text is *poured* into
positions of which a random tenth has changed its role, anew for every window.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64, Integer
from torch import Tensor

from stochloc.data.tokenizers.labelled import LabelledTokenizer
from stochloc.data.tokenizers.protocol import TokenIds, Tokenizer, token_dtype
from stochloc.data.windows import draw_windows


@final
@dataclass(frozen=True)
class SlottedTokenizer:
    """A tokenizer whose texts have a gap before, between and behind their tokens.

    Args:
        inner: the tokenizer of the texts.
        rate: the share of gaps that hold a token, and of places that hold none, in the windows
            drawn for training; in (0, 1).

    Raises:
        ValueError: the rate is no such share, or the inner tokenizer has labels.
    """

    inner: Tokenizer
    rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"The rate of changed slots lies between 0 and 1, not {self.rate}.")
        if isinstance(self.inner, LabelledTokenizer):
            raise ValueError("Texts of several classes cannot be laid out in slots.")

    @property
    def vocabulary_size(self) -> int:
        """The tokens of the texts and the empty one, **V**."""
        return self.inner.vocabulary_size + 1

    @property
    def empty(self) -> int:
        """The token that stands for no character."""
        return self.inner.vocabulary_size

    @property
    def is_character_level(self) -> bool:
        """False: the empty token is no character."""
        return False

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

    def decode(self, ids: TokenIds) -> str:
        """Return the text of a layout; empty tokens stand for nothing."""
        array = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids, dtype=np.int64)
        return self.inner.decode(array[array != self.empty])

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

    def draw_windows(
        self,
        tokens: Integer[np.ndarray, " tokens"],
        num_windows: int,
        length: int,
        generator: torch.Generator,
    ) -> Int64[Tensor, "num length"]:
        """Return windows of clean text, poured anew: what a garbled text may have been.

        Args:
            tokens: a clean text as `encode` lays it out, shape (tokens,).
            num_windows: how many windows to draw.
            length: positions per window.
            generator: the source of randomness; a window begins with a gap or a place at random.

        Returns:
            Windows on the CPU, shape (num_windows, length).

        Raises:
            ValueError: the text has fewer than `2 · length` tokens.
        """
        windows = draw_windows(tokens, num_windows, 2 * length, generator)
        first = torch.randint(2, (num_windows, 1), generator=generator)
        is_gap = (torch.arange(length) + first) % 2 == 0
        return pour(windows, is_gap, self.rate, self.rate, self.empty, generator)

    def _followed_by_gaps(self, ids: Integer[np.ndarray, " tokens"]) -> np.ndarray:
        gaps = np.full(len(ids), self.empty)
        return np.stack([ids.astype(np.int64), gaps], axis=-1).reshape(-1)


def pour(
    texts: Int[Tensor, "num tokens"],
    is_gap: Bool[Tensor, "num length"],
    lost: float,
    added: float,
    empty: int,
    generator: torch.Generator,
) -> Int64[Tensor, "num length"]:
    """Fill a random choice of positions with the characters of a text, one after the other.

    Args:
        texts: the texts; their empty tokens are left out.
        is_gap: which positions are gaps, the others being places.
        lost: probability that a gap holds a character, in [0, 1].
        added: probability that a place holds none, in [0, 1].
        empty: the token that stands for no character.
        generator: the source of randomness.

    Returns:
        Layouts; where a text is too short for its positions, the last ones stay empty.
    """
    is_blank = texts == empty
    packed = texts.gather(-1, is_blank.int().argsort(dim=-1, stable=True))
    packed = torch.cat([packed, torch.full_like(packed[:, :1], empty)], dim=-1)
    chance = torch.where(is_gap, lost, 1 - added)
    is_filled = torch.rand(is_gap.shape, generator=generator, dtype=torch.float64) < chance
    source = (is_filled.cumsum(-1) - 1).clamp(0, packed.shape[-1] - 1)
    return torch.where(is_filled, packed.gather(-1, source), empty)
