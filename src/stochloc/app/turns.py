"""Turns: many requests share one model, and each computes for an equal share of the time.

Every request is a job in a thread of its own, written as if it were alone. Only the thread that has
the turn computes; when it has computed for some milliseconds, the next part of the network that is
called offers the turn, which goes to the job that has computed least so far. So a job of large
calls takes as much time as one of small calls, a newcomer waits for a part of a call, and with k
jobs running each takes k times as long as alone. Of jobs of large calls only a few are begun at a
time: each of them may hold the numbers of an unfinished call.

What a job emits waits in a queue of a few items; while it is full the job computes nothing, so a
client that reads slowly costs no memory. When a client leaves, its job ends at the next call.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, final

from torch import nn

# How long a job computes before it offers the turn.
SLICE_S = 0.01
# Jobs of large calls that are begun at a time.
MOST_LARGE = 4
# Items that wait for their client; a job with so many computes nothing.
MOST_WAITING = 8
# How far a job that waited for its client may fall behind in time, and be given it at once.
MOST_CREDIT_S = 0.2


class BusyError(Exception):
    """As many requests are running as may run."""


class Ended(Exception):
    """A job has emitted all of its items."""


class ClientLeft(BaseException):
    """Raised in a job whose client has left; no code below catches it."""


@final
class Job:
    """A request that is computed in turns.

    Args:
        turns: Gives the turn.
        loop: The event loop that reads what it emits.
    """

    def __init__(self, turns: "Turns", loop: asyncio.AbstractEventLoop) -> None:
        self.turns, self.loop = turns, loop
        self.used_s = self.since_s = 0.0
        self.has_left = False
        self.turn = threading.Event()
        self._room = threading.Semaphore(MOST_WAITING)
        self._items: asyncio.Queue[Any] = asyncio.Queue()

    def emit(self, item: object) -> None:
        """Hand an item to the client; called by the job. Waits, without the turn, for room.

        Args:
            item: Anything but an exception, which is how a job ends.

        Raises:
            ClientLeft: Nobody reads it.
        """
        if not self._room.acquire(blocking=False):
            self.turns.give(self)
            self._room.acquire()
            self.turns.take(self)
        self.check()
        self._put(item)

    def check(self) -> None:
        """Raise `ClientLeft` if nobody waits for the rest."""
        if self.has_left:
            raise ClientLeft

    def end(self, reason: BaseException | None) -> None:
        """Tell the client that nothing more comes; called once, by the job's thread."""
        self._put(Ended() if reason is None else reason)

    def leave(self) -> None:
        """Tell the job that nobody waits for it any more; it ends at its next call."""
        self.has_left = True
        self._room.release()

    async def next(self) -> Any:  # noqa: ANN401
        """Return the next item.

        Raises:
            Ended: There is none.
            Exception: Whatever ended the job.
        """
        item = await self._items.get()
        if isinstance(item, BaseException):
            raise item
        self._room.release()
        return item

    def _put(self, item: object) -> None:
        try:
            self.loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # The server has ended, and its loop is closed.
            self.has_left = True


@final
class Turns:
    """Who computes.

    Args:
        most: Jobs that may run at the same time.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._running: list[Job] = []
        self._waiting: list[Job] = []
        self._holder: Job | None = None
        self._here = threading.local()
        self._large = threading.Semaphore(MOST_LARGE)

    @property
    def running(self) -> int:
        """Jobs that are running now."""
        return len(self._running)

    def start(self, work: Callable[[Job], None], is_large: bool = False) -> Job:
        """Begin a job; called in the event loop.

        Args:
            work: Computes, and emits items to the job it is given.
            is_large: Whether its calls are about many texts at once.

        Returns:
            The job, whose items `next` returns.

        Raises:
            BusyError: As many are running as may run.
        """
        job = Job(self, asyncio.get_running_loop())
        with self._lock:
            if len(self._running) >= self.most:
                raise BusyError
            job.used_s = min((other.used_s for other in self._running), default=0.0)
            self._running.append(job)
        threading.Thread(target=self._run, args=(job, work, is_large), daemon=True).start()
        return job

    def share(self, model: nn.Module) -> None:
        """Make every part of a network offer the turn when it is called.

        Args:
            model: The network.
        """
        for module in model.modules():
            module.register_forward_pre_hook(lambda _, __: self.offer())

    def offer(self) -> None:
        """Give the turn to a job that has computed less; called by the network."""
        job: Job | None = getattr(self._here, "job", None)
        if job is None:
            return
        job.check()
        if time.monotonic() - job.since_s < SLICE_S:
            return
        with self._lock:
            self._account(job)
            if all(other.used_s >= job.used_s for other in self._waiting):
                return
        self.give(job)
        self.take(job)
        job.check()

    def take(self, job: Job) -> None:
        """Wait for the turn."""
        with self._lock:
            computing = [*self._waiting, *([] if self._holder is None else [self._holder])]
            least_s = min((other.used_s for other in computing), default=0.0)
            job.used_s = max(job.used_s, least_s - MOST_CREDIT_S)
            if self._holder is None:
                self._holder, job.since_s = job, time.monotonic()
                return
            self._waiting.append(job)
        job.turn.wait()
        job.turn.clear()

    def give(self, job: Job) -> None:
        """Give the turn to the job that has computed least, if any waits."""
        with self._lock:
            assert self._holder is job
            self._account(job)
            self._holder = min(self._waiting, key=lambda other: other.used_s, default=None)
            if self._holder is not None:
                self._waiting.remove(self._holder)
                self._holder.since_s = time.monotonic()
                self._holder.turn.set()

    def leave_all(self) -> None:
        """End all jobs: the server is stopping."""
        for job in list(self._running):
            job.leave()

    def _run(self, job: Job, work: Callable[[Job], None], is_large: bool) -> None:
        self._here.job = job
        reason: BaseException | None = None
        with self._large if is_large else nullcontext():
            self.take(job)
            try:
                job.check()
                work(job)
            except BaseException as error:
                reason = error
            finally:
                self.give(job)
        with self._lock:
            self._running.remove(job)
        job.end(reason)

    def _account(self, job: Job) -> None:
        now_s = time.monotonic()
        job.used_s, job.since_s = job.used_s + now_s - job.since_s, now_s
