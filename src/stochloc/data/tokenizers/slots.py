"""Slots: positions of which some hold a token of text and the others are empty.

Texts in slots alternate gaps and places (`data.tokenizers.slotted`). A model learns about
insertions and deletions from training text that is *poured* into positions: in every window a newly
drawn tenth of the gaps hold a token and a newly drawn tenth of the places are empty.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64, Integer
from torch import Tensor

from stochloc.data.windows import draw_windows


@dataclass(frozen=True)
class Slots:
    """The slots that texts are laid out in.

    Attributes:
        empty: the token that stands for no character; the tokens of text are those below it.
        rate: the share of gaps that hold a token, and of places that hold none, in the windows
            drawn for training; in (0, 1).
    """

    empty: int
    rate: float

    def text_positions(self, length: int) -> Int64[Tensor, " tokens"]:
        """Return which positions of the layout of a clean text hold its tokens.

        Args:
            length: positions of the layout, gaps included.

        Returns:
            Every second position, beginning behind the first gap.
        """
        return torch.arange(1, length, 2)

    def tokens_for(self, length: int) -> int:
        """Return how many positions of a clean layout a training window of this length may need."""
        return 2 * length

    def draw_windows(
        self,
        tokens: Integer[np.ndarray, " tokens"],
        num_windows: int,
        length: int,
        generator: torch.Generator,
    ) -> Int64[Tensor, "num length"]:
        """Return windows of clean text with new slots: possible originals of corrupted text.

        Args:
            tokens: the layout of a clean text, shape (tokens,).
            num_windows: how many windows to draw.
            length: positions per window.
            generator: the source of randomness; a window begins with a gap or a place at random.

        Returns:
            Windows on the CPU, shape (num_windows, length).

        Raises:
            ValueError: the text has fewer than `tokens_for(length)` tokens.
        """
        windows = draw_windows(tokens, num_windows, self.tokens_for(length), generator)
        first = torch.randint(2, (num_windows, 1), generator=generator)
        is_gap = (torch.arange(length) + first) % 2 == 0
        return pour(windows, is_gap, self.rate, self.rate, self.empty, generator)


def pour(
    texts: Int[Tensor, "num tokens"],
    is_gap: Bool[Tensor, "num length"],
    lost: float,
    added: float,
    empty: int,
    generator: torch.Generator,
) -> Int64[Tensor, "num length"]:
    """Fill randomly chosen positions with the characters of a text, in their order.

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
