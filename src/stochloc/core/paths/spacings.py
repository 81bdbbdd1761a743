"""How a diffusion path distributes its time over signal-to-noise ratios.

A spacing is a probability distribution over γ, and the path is its quantile function: as the time
`t` runs from 0 to 1, `γ(t) = F⁻¹(t)`. A walk of N steps puts its knots at equal shares of
probability; a line integral that draws `t` uniformly draws γ from the density `p = F'` and weights
the integrand by `dγ/dt = 1/p(γ)`. For both purposes the density should be large where the integrand
of the bound is, so one object serves both.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.checks import check_kind


@runtime_checkable
class Spacing(Protocol):
    """A distribution of γ on `[0, snr_max]`, given by its quantile function."""

    @property
    def snr_max(self) -> float:
        """The largest γ, `quantile(1)`; ∞ for unbounded spacings."""
        ...

    def quantile(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return `γ(t)`, increasing from 0 at `t = 0` to `snr_max` at `t = 1`."""
        ...

    def rate(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return `dγ/dt`."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Equal steps in γ: `γ = t · snr_max`.

    Attributes:
        snr_max: The largest γ, positive and finite.
    """

    snr_max: float

    def __post_init__(self) -> None:
        _check_positive(self.snr_max)

    def quantile(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return `t · snr_max`."""
        return time * self.snr_max

    def rate(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return `snr_max`."""
        return torch.full_like(time, self.snr_max)


@dataclass(frozen=True)
class Geometric:
    """Steps in γ that grow by a constant factor: `γ = s ((1 + snr_max/s)^t - 1)`.

    Attributes:
        snr_max: The largest γ, positive and finite.
        scale: Where linear growth turns into geometric growth, `s > 0`, in units of γ.
    """

    snr_max: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(self.snr_max, self.scale)

    @property
    def _log_ratio(self) -> float:
        return math.log1p(self.snr_max / self.scale)

    def quantile(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return `s (exp(t log(1 + snr_max/s)) - 1)`."""
        return (self.scale * torch.expm1(time * self._log_ratio)).clamp(max=self.snr_max)

    def rate(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the derivative of the quantile function."""
        return self.scale * self._log_ratio * torch.exp(time * self._log_ratio)


@dataclass(frozen=True)
class Lomax:
    """Dense at small γ with a power-law tail: `p(γ) ∝ (1 + γ/scale)^-(shape + 1)`.

    The density is positive at 0, where the integrand of the bound is largest, and falls more slowly
    than any exponential, so the weights `1/p` keep the variance finite, both at 0, where a
    log-normal density would make it infinite, and at ∞. Without a cut-off the path ends at ∞.

    Attributes:
        scale: Where the density starts to fall, positive, in units of γ.
        shape: Exponent of the tail, positive; larger is lighter.
        snr_max: Where the distribution is cut off, in `(0, ∞]`.
    """

    scale: float = 8.0
    shape: float = 3.0
    snr_max: float = math.inf

    def __post_init__(self) -> None:
        _check_positive(self.scale, self.shape)
        if not self.snr_max > 0:
            raise ValueError(f"snr_max must be positive, not {self.snr_max}.")

    @property
    def _mass(self) -> float:
        return 1 - (1 + self.snr_max / self.scale) ** -self.shape

    def quantile(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return `scale ((1 - t · mass)^(-1/shape) - 1)`."""
        snr = self.scale * torch.expm1(-torch.log1p(-time * self._mass) / self.shape)
        # Rounding must not move the end beyond the cut-off.
        return snr.clamp(max=self.snr_max)

    def rate(self, time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return `scale mass / shape · (1 - t · mass)^(-1/shape - 1)`."""
        tail = (1 - time * self._mass) ** (-1 / self.shape - 1)
        return self.scale * self._mass / self.shape * tail


def check_spacing(value: object) -> None:
    """Refuse, with a `ValueError`, what is not a spacing."""
    check_kind(value, Spacing, "A spacing such as Uniform(3.0)")


def _check_positive(*values: float) -> None:
    for value in values:
        if not 0 < value < math.inf:
            raise ValueError(f"The parameters of a spacing must be positive, not {value}.")
