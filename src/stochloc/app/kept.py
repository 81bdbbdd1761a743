"""States of earlier walks, so that a walk that is steered need not begin anew.

A state follows from its request, so nothing is lost when one is dropped: it is computed again.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from typing import final

from stochloc.core import State

MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Kept:
    """Where a walk is after some steps.

    Attributes:
        state: The state of its one text.
        calls: Denoiser calls so far.
        bits: Bits so far.
    """

    state: State
    calls: int
    bits: float

    @property
    def size(self) -> int:
        """Bytes it takes."""
        tensors = (self.state.z, self.state.known, self.state.snr)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@final
class KeptStates:
    """The states used last, as many as fit into a number of bytes.

    Args:
        most_bytes: How many.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._states: OrderedDict[Hashable, Kept] = OrderedDict()
        self._lock = Lock()

    def find(self, key: Hashable) -> Kept | None:
        """Return a state; None if it was dropped or never kept."""
        with self._lock:
            if key in self._states:
                self._states.move_to_end(key)
            return self._states.get(key)

    def keep(self, key: Hashable, kept: Kept) -> None:
        """Keep a state, and drop those that were not used for longest.

        Args:
            key: What determines the state: the request up to it.
            kept: The state.
        """
        with self._lock:
            before = self._states.pop(key, None)
            self.bytes += kept.size - (0 if before is None else before.size)
            self._states[key] = kept
            while self.bytes > self.most_bytes:
                _, dropped = self._states.popitem(last=False)
                self.bytes -= dropped.size
