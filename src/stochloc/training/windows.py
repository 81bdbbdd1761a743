"""The windows of text of every update, drawn when they are needed or ahead of it.

Windows follow from the seed and the number of the update alone, so those of an update may be drawn
at any time: a thread draws the next ones while the device computes. Processes that share a batch
all draw it.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from stochloc.training.recipes import TrainingConfig
from stochloc.training.seeds import seeded_generator

Draw = Callable[[int, int, torch.Generator], Tensor]
# Updates whose windows are ready or being drawn while one is computed.
AHEAD = 2


@runtime_checkable
class Windows(Protocol):
    """Gives the windows of every update."""

    def of(self, update: int) -> Tensor:
        """Return the tokens of a batch, on the CPU.

        Args:
            update: Number of updates before it.
        """
        ...


@dataclass(frozen=True)
class SeededWindows:
    """Windows that are drawn when they are asked for.

    Attributes:
        draw: Draws a number of windows of a length from the training text.
        config: Seed, batch and length.
    """

    draw: Draw
    config: TrainingConfig

    def of(self, update: int) -> Tensor:
        """Return the windows of an update."""
        generator = seeded_generator(torch.device("cpu"), self.config.seed, update, 0, 0)
        return self.draw(self.config.batch_size, self.config.length, generator)


class WindowsAhead:
    """The same windows, drawn by a thread before they are asked for.

    Args:
        windows: Draws them; its draw may run beside the program.
        device: Where they are used; for CUDA they are put where a copy need not wait.
        num_updates: Updates in all; none is prepared behind the last.
    """

    def __init__(self, windows: Windows, device: torch.device, num_updates: int) -> None:
        self._windows, self._num_updates = windows, num_updates
        self._is_pinned = device.type == "cuda"
        # Its thread ends with it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="windows")
        self._coming: dict[int, Future[Tensor]] = {}

    def of(self, update: int) -> Tensor:
        """Return the windows of an update, and have those of the next ones prepared.

        Args:
            update: Number of updates before it.

        Returns:
            The tokens; for CUDA in pinned memory.

        Raises:
            ValueError: Whatever the draw raised.
        """
        coming = self._coming.pop(update, None)
        last = min(update + AHEAD, self._num_updates - 1)
        self._coming = {n: f for n, f in self._coming.items() if update < n <= last}
        for number in range(update + 1, last + 1):
            if number not in self._coming:
                self._coming[number] = self._thread.submit(self._prepared, number)
        return self._prepared(update) if coming is None else coming.result()

    def _prepared(self, update: int) -> Tensor:
        tokens = self._windows.of(update)
        return tokens.pin_memory() if self._is_pinned else tokens
