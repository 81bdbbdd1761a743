"""The running average of the weights, which is what a finished run saves and uses.

    average ← decay · average + (1 - decay) · weights,

with the decay warmed up as `(1 + n)/(10 + n)` so that the random initial values soon lose their
weight.

Averages are float32 even where weights are bfloat16: an update by a thousandth is less than half
the spacing of that type's values, and an average stored in it would never change.
"""

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

FLOAT32_BITS = 24


class AveragedWeights:
    """Averages of all parameters of a module, the converter's and the codebook's included.

    Args:
        module: The module whose parameters, all of one type, are followed.
        decay: Decay per update, in `[0, 1)`; 0 keeps the last weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.parameters = list(module.parameters())
        self.averages: list[Tensor] = [_float32_at_least(p).clone() for p in self.parameters]
        self.decay = decay

    @property
    def num_pieces(self) -> int:
        """How many values of the weights' type an average needs: 1 for float32, 3 for bfloat16."""
        # The smallest step from 1 is 2 to the power of 1 minus the bits of a value.
        bits = min(1 - round(math.log2(torch.finfo(p.dtype).eps)) for p in self.parameters)
        return math.ceil(FLOAT32_BITS / bits)

    @torch.no_grad()
    def update(self, step: int, share: Tensor | None = None) -> None:
        """Move the averages towards the weights.

        Args:
            step: Number of updates done before this one.
            share: How much of the way to go, in `[0, 1]`, on the device of the weights, which is
                not waited for; None for all of it.
        """
        way = 1 - min(self.decay, (1 + step) / (10 + step))
        weights = [_float32_at_least(p) for p in self.parameters]
        ways = way if share is None else [share.to(average) * way for average in self.averages]
        torch._foreach_lerp_(self.averages, weights, ways)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Load the averages, rounded to the weights' type, into the module for a block."""
        pieces = self.pieces()
        next(pieces)
        try:
            yield
        finally:
            pieces.close()

    def pieces(self) -> Generator[None]:
        """Load the averages into the module, piece by piece; the pieces sum to them exactly.

        Code that gathers a module's weights from many processes can gather these too, whatever
        their type.

        Yields:
            Nothing, `num_pieces` times; then, or when closed, the weights are restored.
        """
        weights = [p.detach().clone() for p in self.parameters]
        rest = self.averages
        try:
            for number in range(self.num_pieces):
                if number:
                    rest = [r - p.detach() for r, p in zip(rest, self.parameters, strict=True)]
                self._put(rest)
                yield
        finally:
            self._put(weights)

    @torch.no_grad()
    def clear(self) -> None:
        """Set all averages to 0, before pieces are added."""
        torch._foreach_zero_(self.averages)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def add_piece(self) -> None:
        """Add the module's present weights to the averages."""
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            average += parameter.detach()

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for value, parameter in zip(values, self.parameters, strict=True):
            parameter.copy_(value)


def _float32_at_least(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))
