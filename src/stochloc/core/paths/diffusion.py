"""Paths along which all tokens rise together, and the jump that decides them at once."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.paths.base import (
    Free,
    Grid,
    Path,
    Point,
    Steps,
    offered,
    real_type,
    share_of_time,
)
from stochloc.core.paths.spacings import Lomax, Spacing, check_spacing
from stochloc.core.streams import Randomness


@dataclass(frozen=True)
class Diffusion(Path):
    """All tokens rise together, `γ_i(t) = F⁻¹(t)` (paper 2, `C_D`).

    `Diffusion(Uniform(3.0))` raises all tokens linearly to γ = 3. With the default, `Lomax()`, the
    path ends at ∞, so no other path can follow it.

    Attributes:
        spacing: The distribution F of γ over time.
    """

    spacing: Spacing = field(default_factory=Lomax)

    def __post_init__(self) -> None:
        check_spacing(self.spacing)

    @property
    def snr_end(self) -> float:
        """The largest γ of the spacing."""
        return self.spacing.snr_max

    @property
    def rises_to_infinity(self) -> bool:
        """Whether the spacing is unbounded."""
        return self.spacing.snr_max == math.inf

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return N knots at equal quantiles; the last step decodes when the spacing ends at ∞."""
        steps = offered(num_steps, free)
        return Grid(
            steps, lambda n: self.spacing.quantile(share_of_time(n, steps)).expand(free.shape)
        )

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return `γ = F⁻¹(t)` and its speed `1/p(γ)`; no jumps."""
        snr = self.spacing.quantile(time)[:, None].expand(free.shape)
        speed = self.spacing.rate(time)[:, None] * free
        return Point(snr, speed, torch.zeros_like(speed))


@dataclass(frozen=True)
class Decode(Path):
    """Decide all tokens at once and independently: the factorised end of a hybrid path (eq. 13).

    Its walk always has one step.
    """

    @property
    def snr_end(self) -> float:
        """∞: all tokens are known at the end."""
        return math.inf

    @property
    def unmasks_by_rule(self) -> bool:
        """There is but one step."""
        return True

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return the single step from 0 to ∞, however many are offered."""
        steps = torch.ones_like(offered(num_steps, free))
        zero = torch.zeros(free.shape, dtype=real_type(free), device=free.device)
        return Grid(steps, lambda n: zero.masked_fill(n > 0, torch.inf))

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return SNR 0 and a jump of every free token."""
        zero = torch.zeros(free.shape, dtype=time.dtype, device=free.device)
        return Point(zero, zero, free.to(zero))
