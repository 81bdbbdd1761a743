"""What shows the metrics of a run elsewhere: `metrics.jsonl` always has them, and is the record."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Logger(Protocol):
    """Shows the records of one run."""

    def log(self, record: dict[str, Any]) -> None:
        """Show a record: JSON values by name, the number of updates as `step` among them."""
        ...

    def close(self) -> None:
        """Show what has not been shown yet."""
        ...


@runtime_checkable
class LoggerKind(Protocol):
    """A service or a file format; its package is an extra of the same name."""

    @property
    def package(self) -> str:
        """The package that must be installed."""
        ...

    def open(self, folder: Path, description: dict[str, Any], step: int) -> Logger:
        """Return a logger of a run.

        Args:
            folder: The run's folder, which exists.
            description: What is trained and how, as JSON values.
            step: Updates done; what was shown of later ones is void.

        Returns:
            The logger.

        Raises:
            ValueError: The service cannot be reached or refuses.
        """
        ...


def numbers_in(record: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a record, without its step.

    Args:
        record: JSON values.

    Returns:
        The numbers by name.
    """
    return {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "step"
    }
