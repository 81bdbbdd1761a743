"""Methods that also know the exact likelihood of a text read from left to right.

    -log P(x) = Σ_i -log Q(x_i | x_1 ... x_{i-1})

An autoregressive model is trained for it. One that answers from the two sides of each token gives
it as well, with the left side known and the right one unknown, beside the bound it is compared by.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from stochloc.core import Estimate

LeftToRightNats = Callable[[Int[Tensor, "batch length"]], Estimate]


@runtime_checkable
class ReadsLeftToRight(Protocol):
    """A method that may be able to read a text from left to right in one call."""

    @property
    def left_to_right(self) -> LeftToRightNats | None:
        """Returns the exact nats of every token given those before it, one call of the network.

        None if the method cannot: for one made around a network, if that one cannot.
        """
        ...


def left_to_right(method: object) -> LeftToRightNats | None:
    """Return how a method reads a text from left to right.

    Args:
        method: Any method.

    Returns:
        Its `left_to_right`; None if it cannot.
    """
    return method.left_to_right if isinstance(method, ReadsLeftToRight) else None
