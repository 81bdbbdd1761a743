"""Random streams: one for a whole batch, or one for each of its sequences.

With a `torch.Generator` a batch draws as a whole, so the noise of a sequence depends on the others
in its batch. With `Streams` every sequence has a generator of its own, which advances only when
that sequence draws: it receives the same noise in any batch. What still depends on the size of the
batch is rounding in the last bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Fill = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Streams:
    """A random stream for each sequence of a batch.

    Attributes:
        generators: One for each sequence; None for a sequence that does not draw.
        device: Where they draw.
    """

    generators: Sequence[torch.Generator | None]
    device: torch.device

    def draw(self, fill: Fill, shape: tuple[int, ...], dtype: torch.dtype) -> Float[Tensor, "..."]:
        """Return a tensor whose rows are filled from the streams.

        Args:
            fill: Fills a tensor in place from a generator.
            shape: The shape of the result, whose first dimension is the number of sequences.
            dtype: Floating type of the result.

        Returns:
            The draws; 0 in the rows of sequences that do not draw.
        """
        assert shape[0] == len(self.generators), (shape, len(self.generators))
        drawn = torch.zeros(shape, dtype=dtype, device=self.device)
        for row, generator in zip(drawn, self.generators, strict=True):
            if generator is not None:
                fill(row, generator)
        return drawn


Randomness = torch.Generator | Streams


def among(generator: Randomness, rows: Bool[Tensor, " batch"]) -> Randomness:
    """Return a source of randomness from which only some sequences draw.

    Args:
        generator: One for all, which is returned unchanged, or one for each.
        rows: Which sequences draw; values drawn for others are meaningless.

    Returns:
        The source.
    """
    if isinstance(generator, torch.Generator):
        return generator
    pairs = zip(generator.generators, rows.tolist(), strict=True)
    return Streams([own if draws else None for own, draws in pairs], generator.device)
