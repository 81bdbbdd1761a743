"""Mixtures: several texts, each split by itself, whose windows are drawn with given shares.

The parts of all texts lie in one array, in the order in which they were given. A training window is
one of text k with probability w_k, its place uniform there, and never runs from one text into the
next. Held-out windows have the same shares: of text k there are as many as w_k says, so that a mean
over them is an estimate of the loss in training. A held-out part that is too short for a window is
left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from stochloc.data.token_files import count_tokens
from stochloc.data.windows import check_length, cut_windows, held_out_windows


@dataclass(frozen=True)
class Mixture:
    """The training texts of a mixture, one after the other in one array.

    Attributes:
        sizes: tokens of each text.
        weights: the share of each among the windows that are drawn, in any unit; () for the
            texts' sizes.

    Raises:
        ValueError: the weights are not as many as the texts, or not positive.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_weights(self.weights, len(self.sizes))

    @property
    def shares(self) -> Tensor:
        """The probability of each text, shape (texts,)."""
        weights = torch.tensor(self.weights or self.sizes, dtype=torch.float64)
        return weights / weights.sum()

    def draw_windows(
        self,
        tokens: Integer[np.ndarray, " tokens"],
        num_windows: int,
        length: int,
        generator: torch.Generator,
    ) -> Int64[Tensor, "num length"]:
        """Return windows of texts drawn with their shares, their positions drawn uniformly.

        Args:
            tokens: the texts, one after the other, shape (tokens,).
            num_windows: how many windows to draw.
            length: tokens per window.
            generator: the source of randomness.

        Returns:
            Windows on the CPU, shape (num_windows, length).

        Raises:
            ValueError: a text is shorter than a window.
        """
        for begin, size in self._places():
            check_length(tokens[begin : begin + size], length)
        device = generator.device
        shares = self.shares.to(device)
        text = torch.multinomial(shares, num_windows, replacement=True, generator=generator)
        # In float32 the last places of a text of more than 2^24 tokens would not be drawn.
        u = torch.rand(num_windows, generator=generator, device=device, dtype=torch.float64)
        begins, sizes = torch.tensor(list(self._places()), device=device)[text].unbind(-1)
        places = sizes - length + 1
        starts = begins + (u * places).long().clamp(max=places - 1)
        return cut_windows(tokens, starts.cpu().numpy(), length)

    def held_out(
        self,
        tokens: Integer[np.ndarray, " tokens"],
        length: int,
        limit: int | None = None,
    ) -> Int64[Tensor, "num length"]:
        """Return windows that do not overlap, of every text by its share, the same in every call.

        Args:
            tokens: the texts, one after the other, shape (tokens,).
            length: tokens per window.
            limit: at most about this many windows, evenly spaced over each text; None: as many as
                there are. There are fewer where a text has fewer than its share of them.

        Returns:
            Windows in the order of the texts, shape (num, length); at least one of each text that
            holds one, otherwise the numbers are in proportion to the shares, rounded.

        Raises:
            ValueError: no text holds a window, or the limit is less than one.
        """
        places = [(begin, size) for begin, size in self._places() if size >= length > 0]
        if not places or (limit is not None and limit < 1):
            return held_out_windows(tokens[: max(self.sizes)], length, limit)
        shares = [
            share
            for share, size in zip(self.shares.tolist(), self.sizes, strict=True)
            if size >= length
        ]
        held = [size // length for _, size in places]
        most = min(own * sum(shares) / share for own, share in zip(held, shares, strict=True))
        scale = (most if limit is None else min(most, limit)) / sum(shares)
        numbers = [
            min(own, max(1, round(scale * share))) for own, share in zip(held, shares, strict=True)
        ]
        windows = [
            held_out_windows(tokens[begin : begin + size], length, number)
            for (begin, size), number in zip(places, numbers, strict=True)
        ]
        return torch.cat(windows)

    def count(
        self, tokens: Integer[np.ndarray, " tokens"], vocabulary_size: int
    ) -> Int64[np.ndarray, " vocabulary"]:
        """Return how often each token is expected to occur in as many tokens as the texts have.

        Args:
            tokens: the texts, one after the other, shape (tokens,).
            vocabulary_size: number of different tokens, **V**.

        Returns:
            Counts of the texts, weighted by their shares and rounded, shape (vocabulary_size,).
        """
        counts = np.zeros(vocabulary_size)
        for (begin, size), share in zip(self._places(), self.shares.tolist(), strict=True):
            own = count_tokens(tokens[begin : begin + size], vocabulary_size)
            counts += own * (share * sum(self.sizes) / size)
        return np.rint(counts).astype(np.int64)

    def _places(self) -> Sequence[tuple[int, int]]:
        ends = accumulate(self.sizes)
        return [(end - size, size) for end, size in zip(ends, self.sizes, strict=True)]


def check_weights(weights: Sequence[float], num_texts: int) -> None:
    """Refuse weights that cannot be the shares of so many texts.

    Args:
        weights: the shares in any unit; none for the texts' sizes.
        num_texts: how many texts are mixed.

    Raises:
        ValueError: they are not as many as the texts, or not positive.
    """
    if weights and len(weights) != num_texts:
        raise ValueError(
            f"There are {len(weights)} weights for {num_texts} texts; give one for each."
        )
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"The weights {tuple(weights)} are not all positive numbers.")
