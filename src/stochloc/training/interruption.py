"""Stopping in good order: a signal asks the work to save and stop; Ctrl-C again stops it at once.

An update must not be torn, so a signal that comes within one is noted and answered after it. What
can be done again from what is saved may be torn: `at_once` marks it.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

# SIGHUP, which Windows does not know, comes when a terminal closes.
SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """A signal stopped the work, and what was done is saved.

    Args:
        signum: Which one.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    def __str__(self) -> str:
        return "stopped; what was done is saved."

    @property
    def exit_code(self) -> int:
        """What a shell expects: 129 after SIGHUP, 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum


class Interruption:
    """Notes SIGINT, SIGTERM and SIGHUP while it is entered; outside the main thread, nothing.

    A signal that the program was started to ignore, SIGHUP under nohup say, stays ignored.

    Attributes:
        signum: The first signal that came; 0 while there is none.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._tears = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def check(self) -> None:
        """Stop if a signal has come.

        Raises:
            Stopped: One has.
        """
        if self.signum:
            raise Stopped(self.signum)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal stop the work of a block in its midst.

        Raises:
            Stopped: One has come, before or within.
        """
        self._tears = True
        try:
            self.check()
            yield
        finally:
            self._tears = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Another signal is no impatience: Ctrl-C reaches children, who then hear SIGTERM as well.
        # Nor is SIGHUP, which shell and terminal both send.
        is_repeated = number == self.signum in (signal.SIGINT, signal.SIGTERM)
        self.signum = self.signum or number
        if self._tears or is_repeated:
            raise Stopped(self.signum)
