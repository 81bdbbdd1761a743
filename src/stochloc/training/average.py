"""The running average of the weights, which is what a finished run saves and uses.

    average ← decay · average + (1 - decay) · weights,

with the decay warmed up as `(1 + n)/(10 + n)` so that the random start is soon forgotten.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """Averages of all parameters of a module, the converter's and the codebook's included.

    Args:
        module: The module whose parameters are followed.
        decay: Decay per update, in `[0, 1)`; 0 keeps the last weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.parameters = list(module.parameters())
        self.averages: list[Tensor] = [p.detach().clone() for p in self.parameters]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the weights.

        Args:
            step: Number of updates done before this one.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [p.detach() for p in self.parameters]
        torch._foreach_lerp_(self.averages, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages into the module for the time of a block, then the weights back."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)
