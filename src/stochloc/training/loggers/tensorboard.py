"""Metrics as event files of TensorBoard, in the run's folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stochloc.training.loggers.base import Logger, numbers_in

FOLDER = "tensorboard"


class EventFile:
    """Event files of one run.

    Args:
        folder: The run's folder.
        step: Updates done; events of later ones, from before a run was cut off, are hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=step + 1)

    def log(self, record: dict[str, Any]) -> None:
        """Write the numbers as scalars and a sample as text."""
        step = record["step"]
        for name, value in numbers_in(record).items():
            self._writer.add_scalar(name, value, step)
        if "sample" in record:
            self._writer.add_text("sample", record["sample"], step)

    def close(self) -> None:
        """Write what has not been written yet."""
        self._writer.close()


@dataclass(frozen=True)
class TensorBoard:
    """Event files in `tensorboard` of the run's folder: `tensorboard --logdir RUN`."""

    package: str = "tensorboard"

    def open(self, folder: Path, description: dict[str, Any], step: int) -> Logger:
        """Return the writer of a run: see `LoggerKind`."""
        return EventFile(folder, step)
