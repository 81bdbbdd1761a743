"""Where metrics are shown beside the run's folder, one file each; one joins by a line here."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stochloc.training.loggers.base import Logger, LoggerKind
from stochloc.training.loggers.tensorboard import TensorBoard
from stochloc.training.loggers.wandb import WeightsAndBiases

LOGGERS: dict[str, LoggerKind] = {
    "tensorboard": TensorBoard(),
    "wandb": WeightsAndBiases(),
}


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers that cannot be used, before anything is trained.

    Args:
        names: Some of `LOGGERS`.

    Raises:
        ValueError: There is no such logger, or its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise ValueError(
                f"There is no logger {name[:40]!r}; the loggers are {', '.join(LOGGERS)}."
            )
        if find_spec(LOGGERS[name].package) is None:
            raise ValueError(
                f"The logger {name} needs a package that is not installed: "
                f"pip install 'stochloc[{name}]'."
            )


@contextmanager
def opened_loggers(
    names: Sequence[str], folder: Path, description: dict[str, Any], step: int
) -> Iterator[list[Logger]]:
    """Open loggers for the time of a block.

    Args:
        names: Some of `LOGGERS`; one that is named twice is opened once.
        folder: The run's folder, which exists.
        description: What is trained and how, as JSON values.
        step: Updates done.

    Yields:
        The loggers, which are closed however the block ends.
    """
    with ExitStack() as stack:
        opened = []
        for name in dict.fromkeys(names):
            logger = LOGGERS[name].open(folder, description, step)
            stack.callback(logger.close)
            opened.append(logger)
        yield opened


__all__ = ["LOGGERS", "Logger", "LoggerKind", "check_loggers", "opened_loggers"]
