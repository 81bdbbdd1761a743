"""A path through knots given by the user."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.paths.base import Free, Grid, Path, Point, Snr, Steps, offered, real_type
from stochloc.core.streams import Randomness


@dataclass(frozen=True, eq=False)
class Custom(Path):
    """A path through given knots, linear between them.

    Its walk always has the steps between the knots, N of them for `N + 1` knots: the number of
    steps asked for is ignored. In a line integral every leg, from one knot to the next, takes an
    equal share of the time.

    Attributes:
        knots: γ at every knot, first 0, never decreasing, ∞ allowed: `(N + 1,)` for all tokens
            together or `(N + 1, L)`.
    """

    knots: Float[Tensor, "knots *length"]

    def __post_init__(self) -> None:
        if self.knots.ndim > 2 or len(self.knots) < 2 or bool((self.knots[0] != 0).any()):
            raise ValueError("A custom path needs a grid of at least two knots, the first at 0.")
        if not bool((self.knots[1:] >= self.knots[:-1]).all()):
            raise ValueError("The knots of a custom path must never decrease.")

    @property
    def snr_end(self) -> float:
        """The smallest SNR at the last knot."""
        return float(self.knots[-1].min())

    @property
    def unmasks_by_rule(self) -> bool:
        """Whether the grid has no SNR but 0 and ∞."""
        return bool(((self.knots == 0) | self.knots.isinf()).all())

    def end(self, free: Free) -> Snr:
        """Return the last knot."""
        return self._rows(free)[-1].expand(free.shape)

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return the grid as it was given, whatever `num_steps` is."""
        rows = self._rows(free)
        steps = torch.full_like(offered(num_steps, free), len(rows) - 1)
        return Grid(steps, lambda n: rows[n[:, 0]].expand(free.shape))

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return a point of the polygon; segments that end at ∞ are jumps.

        A segment in which some tokens rise and others jump is split: in its first half the former
        rise, in its second half the latter jump. If tokens jumped while the others rise, the points
        would not lie on one curve, and the integral would not be `-log P`.
        """
        rows, num_legs = self._rows(free), len(self.knots) - 1
        leg = (time * num_legs).long()
        begin, end = rows[leg].expand(free.shape), rows[leg + 1].expand(free.shape)
        jumps = free & end.isinf() & begin.isfinite()
        height = torch.where(end.isinf(), 0.0, end - begin) * free
        halves = 1 + (jumps.any(-1) & (height > 0).any(-1)).to(height)[:, None]
        now = halves * (time * num_legs - leg)[:, None]
        # A segment that is not split has one half, in which its tokens rise or jump.
        rate, in_last = halves * num_legs, now >= halves - 1
        return Point(
            snr=begin + now.clamp(max=1) * height,
            speed=torch.where(now < 1, height * rate, 0.0),
            jump=torch.where(in_last, jumps * rate, 0.0),
        )

    def _rows(self, free: Free) -> Float[Tensor, "knots columns"]:
        rows = self.knots.to(device=free.device, dtype=real_type(free))
        rows = rows[:, None] if rows.ndim == 1 else rows
        if rows.shape[-1] not in (1, free.shape[-1]):
            raise ValueError(
                f"The custom path is for {rows.shape[-1]} tokens, not {free.shape[-1]}."
            )
        return rows
