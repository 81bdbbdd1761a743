"""Schedules of discrete diffusion: the probability α(t) that a token is still itself at time t.

α falls from 1 at time 0 to about 0 at time 1. What a bound weighs with is the rate at which masked
tokens come back, `-α'/(1 - α)`.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Schedule(Protocol):
    """A decreasing α on `[0, 1]`."""

    def alpha(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that a token is still itself."""
        ...

    def slope(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the derivative α', at most 0."""
        ...


def revealing_rate(schedule: Schedule, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the rate at which masked tokens come back, `-α'/(1 - α)`.

    Args:
        schedule: Gives α.
        time: Times, in `[0, 1]`.

    Returns:
        The rates, finite also at time 0, where few tokens are masked and the weight is largest.
    """
    hidden = (1 - schedule.alpha(time)).clamp(min=1e-12)
    return -schedule.slope(time) / hidden


def final_alpha(schedule: Schedule) -> float:
    """Return the probability that a token is still itself at time 1.

    Args:
        schedule: Gives α.

    Returns:
        α(1), exact.
    """
    return float(schedule.alpha(torch.ones((), dtype=torch.float64)))


@dataclass(frozen=True)
class Linear:
    """`α = 1 - (1 - ε) t`; MDLM and SEDD call its rate log-linear.

    Attributes:
        floor: α at time 1, ε in `[0, 1)`.
    """

    floor: float = 0.0

    def alpha(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that a token is still itself."""
        return 1 - (1 - self.floor) * time

    def slope(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the derivative α'."""
        return (self.floor - 1) * time.new_ones(time.shape)


@dataclass(frozen=True)
class Cosine:
    """`α = 1 - cos(π/2 (1 - t))` (MD4): few tokens are masked at a time when most are unknown."""

    def alpha(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that a token is still itself."""
        return 1 - (math.pi / 2 * (1 - time)).cos()

    def slope(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the derivative α'."""
        return -math.pi / 2 * (math.pi / 2 * (1 - time)).sin()


@dataclass(frozen=True)
class SquaredCosine:
    """`α ∝ cos²(π/2 (t + s)/(1 + s))` (Nichol and Dhariwal), of D3PM uniform and Multinomial.

    Attributes:
        offset: Keeps the first steps from being too small, s > 0.
    """

    offset: float = 0.008

    def alpha(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that a token is still itself."""
        scale = math.cos(self._angle(0.0)) ** 2
        return (math.pi / 2 * (time + self.offset) / (1 + self.offset)).cos().square() / scale

    def slope(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the derivative α'."""
        scale, speed = math.cos(self._angle(0.0)) ** 2, math.pi / 2 / (1 + self.offset)
        return -speed * (2 * speed * (time + self.offset)).sin() / scale

    def _angle(self, time: float) -> float:
        return math.pi / 2 * (time + self.offset) / (1 + self.offset)
