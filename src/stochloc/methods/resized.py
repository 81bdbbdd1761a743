"""A method on a backbone of another depth, by which methods are compared at equal size.

The parameters of a transformer grow linearly with its depth d, `p(d) = p(1) + (d - 1) (p(2) -
p(1))`, so the depth with the number of parameters nearest to a given one follows from two networks.
Products with matrices are most of the cost of an update, one per parameter and token, so methods
of equal size cost nearly the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from stochloc.methods.method import Frame, Method
from stochloc.nn.unfilled import unfilled

Maker = Callable[[Frame], Method]


@dataclass(frozen=True)
class Resized:
    """A method on a backbone of another depth.

    Attributes:
        method: Makes the method.
        depth: Gives the number of its blocks, at least 1, from the frame of all methods.
    """

    method: Maker
    depth: Callable[[Frame], int]

    def from_frame(self, frame: Frame) -> Method:
        """Return the untrained method at its own depth."""
        return self.method(of_depth(frame, self.depth(frame)))


@dataclass(frozen=True)
class DepthOfSameSize:
    """The depth at which one method has as nearly as possible the parameters of another.

    Attributes:
        method: The method whose depth is sought.
        other: The method whose parameters it should have, at the depth of the frame.
    """

    method: Maker
    other: Maker

    def __call__(self, frame: Frame) -> int:
        """Return the depth, at least 1."""
        one, two = (_num_parameters(self.method, of_depth(frame, depth)) for depth in (1, 2))
        return max(1, 1 + round((_num_parameters(self.other, frame) - one) / (two - one)))


def left_half(frame: Frame) -> int:
    """Return the number of blocks of the left stack of a two-sided network: half, rounded up."""
    return (frame.backbone.depth + 1) // 2


def of_depth(frame: Frame, depth: int) -> Frame:
    """Return a frame with a backbone of another depth.

    Args:
        frame: What all methods share.
        depth: Number of blocks, at least 1.

    Returns:
        The frame, which differs in the depth alone.
    """
    return replace(frame, backbone=replace(frame.backbone, depth=depth))


def _num_parameters(method: Maker, frame: Frame) -> int:
    with unfilled():
        return sum(parameter.numel() for parameter in method(frame).parameters())
