"""Orderly interruption: a signal makes the work save and stop; a second Ctrl-C stops it at once.

An update must not be cut off, so a signal that arrives during one is noted and handled after it.
Work that can be repeated from what is saved may be cut off: `at_once` marks it.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

# SIGHUP, which Windows does not have, is sent when a terminal closes.
SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """A signal stopped the work, and its results so far are saved.

    Args:
        signum: Number of the signal.
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
    """Notes SIGINT, SIGTERM and SIGHUP while it is entered; does nothing outside the main thread.

    A signal that the program was started to ignore, such as SIGHUP under nohup, stays ignored.

    Attributes:
        signum: The first signal received; 0 while there is none.
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
        """Stop if a signal was received.

        Raises:
            Stopped: One has.
        """
        if self.signum:
            raise Stopped(self.signum)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal stop the work of a block immediately.

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
        # A second signal of another kind does not mean impatience: child processes receive SIGTERM
        # after Ctrl-C. Nor does SIGHUP, which shell and terminal both send.
        is_repeated = number == self.signum in (signal.SIGINT, signal.SIGTERM)
        self.signum = self.signum or number
        if self._tears or is_repeated:
            raise Stopped(self.signum)
