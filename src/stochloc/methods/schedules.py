"""Schedules of discrete diffusion: the probability α(t) that a token is still unchanged at time t.

α falls from 1 at time 0 to about 0 at time 1. The weight in the bounds is the rate at which the
reverse process reveals masked tokens, `-α'/(1 - α)`.
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
        """Return the probability that a token is still unchanged."""
        ...

    def slope(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the derivative α', at most 0."""
        ...


def revealing_rate(schedule: Schedule, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the rate at which masked tokens are revealed, `-α'/(1 - α)`.

    Args:
        schedule: Gives α.
        time: Times, in `[0, 1]`.

    Returns:
        The rates, finite also at time 0, where few tokens are masked and the weight is largest.
    """
    hidden = (1 - schedule.alpha(time)).clamp(min=1e-12)
    return -schedule.slope(time) / hidden


def final_alpha(schedule: Schedule) -> float:
    """Return the probability that a token is still unchanged at time 1.

    Args:
        schedule: Gives α.

    Returns:
        α(1), exact.
    """
    return float(schedule.alpha(torch.ones((), dtype=torch.float64)))


@dataclass(frozen=True)
class Linear:
    """`α = 1 - (1 - ε) t`, which MDLM and SEDD call log-linear noise.

    Attributes:
        floor: α at time 1, ε in `[0, 1)`.
    """

    floor: float = 0.0

    def alpha(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that a token is still unchanged."""
        return 1 - (1 - self.floor) * time

    def slope(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the derivative α'."""
        return (self.floor - 1) * time.new_ones(time.shape)


@dataclass(frozen=True)
class Cosine:
    """`α = 1 - cos(π/2 (1 - t))` (MD4): the first steps of the sampler reveal few tokens."""

    def alpha(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that a token is still unchanged."""
        return 1 - (math.pi / 2 * (1 - time)).cos()

    def slope(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the derivative α'."""
        return -math.pi / 2 * (math.pi / 2 * (1 - time)).sin()


@dataclass(frozen=True)
class ShiftedCosine:
    """`α = cos(π/2 (t + s)/(1 + s)) / cos(π/2 s/(1 + s))`, of D3PM uniform and Multinomial.

    The cosine itself, not its square as in the schedule of Nichol and Dhariwal: in each step, the
    code of D3PM (`d3pm/text/diffusion.py`, `cosine_fn`) keeps a token with probability
    `cos(t + 1/T)/cos(t)`, and that of Multinomial Diffusion (`diffusion_multinomial.py`,
    `cosine_beta_schedule`) with the square root of the squared ratio.

    Attributes:
        offset: Keeps the first steps from being too small, s > 0.
    """

    offset: float = 0.008

    def alpha(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that a token is still unchanged."""
        return self._angle(time).cos() / self._scale

    def slope(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the derivative α'."""
        return -math.pi / 2 / (1 + self.offset) * self._angle(time).sin() / self._scale

    @property
    def _scale(self) -> float:
        return math.cos(math.pi / 2 * self.offset / (1 + self.offset))

    def _angle(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return math.pi / 2 * (time + self.offset) / (1 + self.offset)


def even_grid(num_steps: int) -> Float[Tensor, " times"]:
    """Return the times of a sampler's N steps, from 1 to 0, evenly spaced, float64.

    Args:
        num_steps: N, at least 1.

    Returns:
        N + 1 times.
    """
    return torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)


def cosine_grid(num_steps: int) -> Float[Tensor, " times"]:
    """Return the times of a sampler's N steps, `cos(π/2 n/N)`: short steps near 1 (MD4).

    Args:
        num_steps: N, at least 1.

    Returns:
        N + 1 times from 1 to 0, float64.
    """
    times = (math.pi / 2 * (1 - even_grid(num_steps))).cos()
    times[-1] = 0.0
    return times
