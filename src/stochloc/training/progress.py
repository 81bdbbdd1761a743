"""The progress display of a training run on stderr: a bar in a terminal, a few lines elsewhere."""

import math
import time
from types import TracebackType
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stochloc.terminal import messages


class ProgressDisplay:
    """Shows the loss, bits per token, tokens per second and the time left.

    Args:
        first_step: Updates already done.
        num_steps: Updates in all.
        update_tokens: Tokens per update.
        target: What the loss is per, in words.
        visible: Whether to show anything; processes other than the first stay silent.
    """

    def __init__(
        self,
        first_step: int,
        num_steps: int,
        update_tokens: int,
        target: str,
        visible: bool = True,
    ) -> None:
        self.first_step, self.num_steps, self.visible = first_step, num_steps, visible
        self.update_tokens, self.target = update_tokens, target
        stream = messages()
        self.console = Console(file=cast(TextIO, stream), quiet=not visible)
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (visible and stream.isatty()),
        )
        self.started_s = time.monotonic()
        self.next_line = 0.0

    def __enter__(self) -> "ProgressDisplay":
        self.bar.start()
        self.task = self.bar.add_task(
            "training", total=self.num_steps, completed=self.first_step, status=""
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.bar.disable:  # Before 14.3 rich writes an empty line even then.
            self.bar.stop()

    def update(self, step: int, loss_nats: float, share_of_peak: float | None = None) -> None:
        """Show the progress of the run.

        Args:
            step: Updates done.
            loss_nats: Recent training loss, nats per target.
            share_of_peak: Recent share of the devices' peak, in `[0, 1]`; None if not known.
        """
        elapsed_s = max(time.monotonic() - self.started_s, 1e-9)
        tokens = (step - self.first_step) * self.update_tokens
        status = (
            f"loss {loss_nats:.3f} nats = {loss_nats / math.log(2):.3f} bits per {self.target}, "
            f"{tokens / elapsed_s:,.0f} tokens/s"
        )
        if share_of_peak is not None:
            status += f" ({share_of_peak:.0%} of the device's peak)"
        self.bar.update(self.task, completed=step, status=status)
        done = step / self.num_steps
        if self.bar.disable and done >= self.next_line:
            left_s = elapsed_s * (self.num_steps - step) / max(step - self.first_step, 1)
            self.say(f"step {step}/{self.num_steps}: {status}, {left_s:.0f} s left")
            self.next_line = done + 0.1

    def say(self, message: str) -> None:
        """Print a line above the bar.

        Args:
            message: Plain text.
        """
        self.console.out(message, highlight=False)
