"""The processes that train one model: who tells how it ended, and who notices that one is gone.

A collective operation waits for every process. One that was killed closes its connections, and the
others meet an error; one whose machine has lost its network does not, and they would wait on. So
every process counts up in a store that all reach, once a second, and watches the others count. Who
has not for `SILENT_S` is gone: all others end, with a sentence on each machine. The time is by each
one's own clock. Work on the first process alone, such as a held-out bound, may take as long as it
likes: another thread counts.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum, auto

from torch import distributed
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import (
    TCPStore,  # pyright: ignore[reportPrivateImportUsage]
)

from stochloc.terminal import is_first_process, messages
from stochloc.training.interruption import Interruption

_TOLD = "stochloc/told"
_SIGN = "stochloc/sign/{}"
BEAT_S = 1.0
# A process is gone after so long without a sign, and once an operation with it has failed, sooner.
SILENT_S = 30.0
DOUBTED_S = 4.0
# From the start of a program to its first sign of life.
ARRIVAL_S = 120.0
# For a process to meet the end of another by itself.
LEAVING_S = 10.0
EXIT_CODE = 2


class ProcessGoneError(ValueError):
    """A process that trains the same model is gone; its message is for one process a machine."""


def may_tell_end(error: BaseException | None = None) -> bool:
    """Return whether this process reports how the work ended; called once, at the end.

    An error that ends one process ends the others, by the same cause or because they lose the
    first. The first to call reports. Processes that do not communicate each report for themselves.

    Args:
        error: What ended it.

    Returns:
        Whether to report; errors of the other processes are consequences and can be ignored.
    """
    if isinstance(error, ProcessGoneError):
        return True
    try:
        store = _common_store()
        return store is None or store.add(_TOLD, 1) == 1
    except RuntimeError:
        # The store ended with the first process, which has reported.
        return is_first_process()


@contextmanager
def together() -> Iterator["Peers"]:
    """Watch the other processes of a training, if there are some, for the time of a block.

    Those that torchrun has started are watched from the beginning, all others from `Peers.meet`.

    Yields:
        The peers.

    Raises:
        ProcessGoneError: An operation failed because a process is gone.
        SystemExit: Another process has ended and told why.
    """
    peers = Peers()
    peers.meet()
    try:
        yield peers
    except RuntimeError:
        peers.explain()
        peers.leave(_State.FAILED)
        raise
    except BaseException:
        peers.leave(_State.FAILED)
        raise
    peers.leave(_State.ENDED)


class _State(StrEnum):
    WORKS = auto()
    ENDED = auto()
    FAILED = auto()


@dataclass(frozen=True)
class _Sign:
    """A sign of life.

    Attributes:
        count: How many came before it.
        state: How it goes.
        host: Name of the machine.
        knows: Whether it knows that another process has failed.
    """

    count: int
    state: _State
    host: str
    knows: bool = False

    def encode(self) -> str:
        """Return it as text."""
        return json.dumps([self.count, self.state, self.host, self.knows])

    @classmethod
    def decode(cls, data: bytes) -> "_Sign":
        """Return the sign that `encode` turned into text."""
        count, state, host, knows = json.loads(data)
        return cls(count, _State(state), host, knows)


class Peers:
    """Signs of life of this process and of all others.

    Attributes:
        advice: How to go on after a process is gone, as the end of a sentence.
    """

    def __init__(self) -> None:
        self.advice = "start the command again on every machine"
        self.rank, self.size = 0, 1
        self._state, self._host = _State.WORKS, socket.gethostname()
        self._signs: dict[int, _Sign] = {}
        self._heard_s: dict[int, float] = {}
        self._is_store_lost = self._is_ending = False
        self._at_once = threading.Event()

    def meet(self) -> None:
        """Begin to watch, once there is a store that all processes reach; else do nothing."""
        if self.size > 1 or (store := _common_store()) is None:
            return
        is_group = distributed.is_initialized()
        size = distributed.get_world_size() if is_group else int(os.environ["WORLD_SIZE"])
        if size == 1:
            return
        self.rank = distributed.get_rank() if is_group else int(os.environ["RANK"])
        self.size = size
        # A connection of its own: another thread may wait in the first one.
        own = store.clone()  # pyright: ignore[reportAttributeAccessIssue]
        own.set_timeout(timedelta(seconds=SILENT_S))
        self._heard_s = dict.fromkeys(range(size), time.monotonic() + ARRIVAL_S - SILENT_S)
        threading.Thread(target=self._exchange, args=(own,), daemon=True).start()
        threading.Thread(target=self._judge, daemon=True).start()

    def explain(self) -> None:
        """Find out whether an error is the consequence of another process's end.

        Raises:
            ProcessGoneError: A process is gone, and this one tells it.
            SystemExit: Another process has failed, or tells it.
        """
        until = time.monotonic() + DOUBTED_S + 3 * BEAT_S
        self._at_once.set()
        # torchrun ends the processes of a machine as soon as it has lost those of another.
        with Interruption():
            while self.size > 1 and time.monotonic() < until:
                gone = self._silent(DOUBTED_S)
                if gone or self._failed():
                    self._is_ending = True
                    if not gone or not self._is_spokesman(gone):
                        raise SystemExit(EXIT_CODE) from None
                    raise ProcessGoneError(self._sentence(gone)) from None
                time.sleep(BEAT_S / 10)

    def leave(self, state: "_State") -> None:
        """Say how the work ended, and stop to watch.

        Args:
            state: How.
        """
        if self.size == 1 or self._is_ending:
            return
        self._is_ending = True
        self._state = state
        self._at_once.set()
        if state is not _State.FAILED:
            return
        # The store may end with the first process: it waits until the others have read the sign.
        until = time.monotonic() + 2 * BEAT_S + 1
        while time.monotonic() < until and not self._is_store_lost:
            time.sleep(BEAT_S / 20)
            signs = dict(self._signs)
            own = signs.pop(self.rank, None)
            is_written = own is not None and own.state is state
            if is_written and (self.rank or all(map(_knows_end, signs.values()))):
                return

    def _exchange(self, store: Store) -> None:
        """Write and read signs until the store is gone or this process has ended."""
        count = 0
        try:
            while self._state is not _State.ENDED:
                count += 1
                own = _Sign(count, self._state, self._host, bool(self._failed()))
                store.set(_SIGN.format(self.rank), own.encode())
                for rank in range(self.size):
                    key = _SIGN.format(rank)
                    if rank in self._signs or store.check([key]):
                        self._hear(rank, _Sign.decode(store.get(key)))
                self._at_once.wait(BEAT_S)
                self._at_once.clear()
        except RuntimeError:
            self._is_store_lost = True

    def _hear(self, rank: int, sign: _Sign) -> None:
        before = self._signs.get(rank)
        if before is None or before.count != sign.count:
            self._signs[rank], self._heard_s[rank] = sign, time.monotonic()

    def _judge(self) -> None:
        """End this process if another one is gone; or has failed, and this one does not end."""
        last_s, failed_s = time.monotonic(), None
        while not self._is_ending:
            time.sleep(BEAT_S)
            now_s = time.monotonic()
            if now_s - last_s > DOUBTED_S:  # this process was stopped itself
                self._heard_s = dict.fromkeys(range(self.size), now_s)
            last_s = now_s
            if self._failed():
                failed_s = failed_s or now_s
            gone = self._silent(SILENT_S)
            is_left = failed_s is not None and now_s - failed_s > LEAVING_S
            if not self._is_ending and (gone or is_left):
                self._is_ending = True
                if gone and failed_s is None and self._is_spokesman(gone):
                    print(f"stochloc: {self._sentence(gone)}", file=messages(), flush=True)
                os._exit(EXIT_CODE)

    def _silent(self, silent_s: float) -> list[int]:
        """Return who is gone; the first process alone if nobody can be heard without it."""
        now_s = time.monotonic()
        silent = [rank for rank, heard_s in self._heard_s.items() if now_s - heard_s > silent_s]
        is_cut_off = self.rank in silent or (self._is_store_lost and silent_s == DOUBTED_S)
        if is_cut_off and self.rank:
            return [0]
        return [rank for rank in silent if rank != self.rank and self._is_working(rank)]

    def _failed(self) -> list[int]:
        signs = dict(self._signs)
        return [r for r, sign in signs.items() if r != self.rank and sign.state is _State.FAILED]

    def _is_working(self, rank: int) -> bool:
        sign = self._signs.get(rank)
        return sign is None or sign.state is _State.WORKS

    def _is_spokesman(self, gone: list[int]) -> bool:
        """Return whether this is the first process of its machine that is left."""
        here = [rank for rank, sign in dict(self._signs).items() if sign.host == self._host]
        return self.rank == min({*here, self.rank} - set(gone))

    def _sentence(self, gone: list[int]) -> str:
        sign = self._signs.get(gone[0])
        place = "" if sign is None else f", on {sign.host},"
        return (
            f"Process {gone[0] + 1} of {self.size}{place} is gone or cannot be reached; "
            f"{self.advice}"
        )


def _knows_end(sign: _Sign) -> bool:
    return sign.knows or sign.state is not _State.WORKS


def _common_store() -> Store | None:
    """Return a store that all processes reach; None if there is none, or only one process."""
    if not distributed.is_available():
        return None
    if distributed.is_initialized():
        return distributed_c10d._get_default_store()
    # Processes of torchrun find one before they have joined a group.
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return None
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(*address, timeout=timedelta(seconds=SILENT_S))
