"""How far the work on a file is, on stderr: a bar in a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from stochloc.terminal import is_first_process, messages

# Without a terminal the first line comes after so long, and each next one after twice as long.
FIRST_LINE_S, MOST_S = 10.0, 600.0


class HowMuchIsRead:
    """The share of some files that has been read, in bytes as they lie on the disk."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int]] = {}

    def watch(self, name: str, read: int, size: int) -> None:
        """Note how far a file is read: a `data.texts.Watch`.

        Args:
            name: The file.
            read: Bytes read.
            size: All its bytes.
        """
        self._files[name] = (read, size)

    @property
    def share(self) -> float | None:
        """The share, in `[0, 1]`; None where no size is known before the end."""
        sizes = sum(size for _, size in self._files.values())
        return sum(read for read, _ in self._files.values()) / sizes if sizes else None


class RecordProgress:
    """Shows the number of records, how many a second, and the share of the file.

    Args:
        name: The command.
        done: Records that have a result from an earlier start.
        read: How much of the file is read.
    """

    def __init__(self, name: str, done: int, read: HowMuchIsRead) -> None:
        self.name, self.done, self.read = name, done, read
        visible, stream = is_first_process(), messages()
        console = Console(file=cast(TextIO, stream), quiet=not visible)
        self.console = console
        self.bar = Progress(
            TextColumn(name),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not (visible and stream.isatty()),
        )
        self.started_s = time.monotonic()
        self.next_s, self.interval_s = FIRST_LINE_S, FIRST_LINE_S

    def __enter__(self) -> "RecordProgress":
        self.bar.start()
        self.task = self.bar.add_task(self.name, total=None, status="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_s

    def update(self, num_records: int, num_errors: int) -> None:
        """Show how far the work is.

        Args:
            num_records: Records that have a result, those of earlier starts included.
            num_errors: How many of these are errors.
        """
        elapsed_s, share = self.elapsed_s, self.read.share
        rate = (num_records - self.done) / max(elapsed_s, 1e-9)
        status = f"{num_records:,} record{'s' * (num_records != 1)}, {rate:,.1f} a second"
        status += f", {num_errors:,} with an error" if num_errors else ""
        total = None if share is None else 1.0
        self.bar.update(self.task, completed=share or 0.0, total=total, status=status)
        if self.bar.disable and elapsed_s >= self.next_s:
            of_file = "" if share is None else f", {share:.1%} of the file"
            self.console.print(
                f"{self.name}: {status}{of_file}", markup=False, highlight=False, soft_wrap=True
            )
            self.interval_s = min(2 * self.interval_s, MOST_S)
            self.next_s = elapsed_s + self.interval_s
