"""Random streams: one for a whole batch, or one for each of its sequences.

With a `torch.Generator` a batch draws as a whole, so the noise of a sequence depends on the others
in its batch. With `Streams` every sequence has a generator of its own, which advances only when
that sequence draws: it receives the same noise in any batch. What still depends on the size of the
batch is rounding in the last bit. A batch that is computed in parts draws as a whole too
(`WholeBatch`), and each part is given its rows.
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


class WholeBatch:
    """The draws of a batch that is computed in parts: the same numbers however it is cut.

    What is drawn is kept until the batch is done.

    Args:
        generator: Source of the draws of all rows.
        num_rows: Rows of the batch.
    """

    def __init__(self, generator: torch.Generator, num_rows: int) -> None:
        self.generator, self.num_rows = generator, num_rows
        self._drawn: list[Tensor] = []

    def rows(self, rows: slice) -> "PartOfBatch":
        """Return a source of what the batch draws for some rows, from a start to a stop."""
        return PartOfBatch(self, rows)

    def draw(self, number: int, fill: Fill, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return the draws of all rows.

        Args:
            number: How many draws of a row came before; those of the batch are made in this order.
            fill: Fills a tensor in place from a generator.
            shape: The shape of the draws of a row.
            dtype: Floating type of the result.

        Returns:
            The draws, those of the first part that asked.
        """
        assert number <= len(self._drawn), "all parts make the same draws"
        if number == len(self._drawn):
            rows = torch.empty(self.num_rows, *shape, dtype=dtype, device=self.generator.device)
            self._drawn.append(fill(rows, self.generator))
        return self._drawn[number]


class PartOfBatch:
    """The draws of some rows of a batch; see `WholeBatch.rows`.

    Args:
        whole: The batch.
        rows: Its rows here.
    """

    def __init__(self, whole: WholeBatch, rows: slice) -> None:
        self._whole, self._rows, self._number = whole, rows, 0

    @property
    def device(self) -> torch.device:
        """Where the draws are made."""
        return self._whole.generator.device

    def draw(self, fill: Fill, shape: tuple[int, ...], dtype: torch.dtype) -> Float[Tensor, "..."]:
        """Return the rows of the batch's next draw: see `Streams.draw`."""
        assert shape[0] == self._rows.stop - self._rows.start, (shape, self._rows)
        drawn = self._whole.draw(self._number, fill, shape[1:], dtype)
        self._number += 1
        return drawn[self._rows]


Randomness = torch.Generator | Streams | PartOfBatch


def among(generator: Randomness, rows: Bool[Tensor, " batch"]) -> Randomness:
    """Return a source of randomness from which only some sequences draw.

    Args:
        generator: One for all, which is returned unchanged, or one for each.
        rows: Which sequences draw; values drawn for others are meaningless.

    Returns:
        The source.
    """
    if not isinstance(generator, Streams):
        return generator
    pairs = zip(generator.generators, rows.tolist(), strict=True)
    return Streams([own if draws else None for own, draws in pairs], generator.device)
