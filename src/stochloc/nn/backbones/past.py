"""What a causal block remembers of the tokens it has read: their keys and values.

A stack that reads token by token needs the keys and values of all tokens before, not their
embeddings. A copy of all of them at every token would cost as much as attention itself, so they
are written into memory with room to spare, which doubles when it is full: adding a token costs a
token. Several futures of one past stay apart: the first takes the room behind it, another copies.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_ROOM = 32


@dataclass(eq=False)
class _Room:
    """Memory for keys and values, of which a beginning is written.

    Attributes:
        both: Keys before values, `(2, B, room, H, D)`.
        written: Number of places written.
    """

    both: Tensor
    written: int = 0


@dataclass(frozen=True, eq=False)
class Past:
    """Keys and values of the tokens read so far; never changes.

    Attributes:
        keys: Keys, turned by their positions.
        values: Values.
        room: The memory they lie in; None where gradients are recorded.
    """

    keys: Float[Tensor, "batch length heads dim"]
    values: Float[Tensor, "batch length heads dim"]
    room: _Room | None = None

    def __len__(self) -> int:
        return self.keys.shape[1]

    def and_then(
        self,
        keys: Float[Tensor, "batch more heads dim"],
        values: Float[Tensor, "batch more heads dim"],
    ) -> "Past":
        """Return the past that has read more tokens; this one stays as it is.

        Args:
            keys: Keys of the tokens that come next.
            values: Values of the tokens that come next.

        Returns:
            The longer past; differentiable where gradients are recorded.
        """
        if torch.is_grad_enabled():
            return Past(torch.cat([self.keys, keys], 1), torch.cat([self.values, values], 1))
        begin, end = len(self), len(self) + keys.shape[1]
        room = self.room
        if room is None or room.written != begin or room.both.shape[2] < end:
            room = self._copied(max(SMALLEST_ROOM, 2 * end))
        room.both[0, :, begin:end], room.both[1, :, begin:end] = keys, values
        room.written = end
        return Past(room.both[0, :, :end], room.both[1, :, :end], room)

    def _copied(self, places: int) -> _Room:
        batch, length, *rest = self.keys.shape
        both = self.keys.new_empty(2, batch, places, *rest)
        both[0, :, :length], both[1, :, :length] = self.keys, self.values
        return _Room(both, length)
