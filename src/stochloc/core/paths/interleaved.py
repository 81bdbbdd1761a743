"""Unmasking and diffusion at once, and the best such path for a given model and number of steps.

An interleaved path has two coordinates: the share of tokens that are known, taken in a random
order, and the γ that all others have reached. Along one axis it is masked diffusion, along the
other Gaussian diffusion; between them lies every mixture.

The finite-step bound of such a path is a sum over its steps, and the state at each knot is
distributed as the channel, whatever the steps before. So the expected cost of a step depends on its
two ends alone: measured once on a lattice of knots, it gives the cost of every path on the lattice,
and the best path of N steps is found by dynamic programming, `O(N)` times the number of edges.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.paths.base import Free, Grid, Path, Point, Snr, Steps, offered, real_type
from stochloc.core.paths.orders import random_ranks
from stochloc.core.streams import Randomness


@dataclass(frozen=True)
class Interleaved(Path):
    """A polygon in the plane of known share and γ.

    Attributes:
        known: Share of the tokens known at every knot, from 0 to 1, never decreasing.
        snr: γ of the others at every knot, finite, from 0, never decreasing.
    """

    known: tuple[float, ...]
    snr: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.known) != len(self.snr) or len(self.known) < 2:
            raise ValueError("An interleaved path needs as many shares as SNRs, at least two.")
        if self.known[0] != 0 or self.snr[0] != 0 or self.known[-1] != 1:
            raise ValueError("An interleaved path leads from share 0 at γ = 0 to share 1.")
        for values in (self.known, self.snr):
            if any(b < a for a, b in pairwise(values)):
                raise ValueError("The knots of an interleaved path must never decrease.")
        if not self.snr[-1] < torch.inf:
            raise ValueError("The SNR of an interleaved path is finite; known tokens are at ∞.")

    @property
    def snr_end(self) -> float:
        """∞: all tokens are known at the end."""
        return torch.inf

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return the path's own knots in a random order of the tokens; `num_steps` is ignored."""
        steps = torch.full_like(offered(num_steps, free), len(self.known) - 1)
        ranks, counts = random_ranks(free, generator), self._counts(free)
        snr = torch.tensor(self.snr, dtype=real_type(free), device=free.device)
        rows = torch.arange(len(free), device=free.device)

        def level(n: Steps) -> Snr:
            is_known = free & (ranks < counts[n[:, 0], rows])
            return snr[n].expand(free.shape).masked_fill(is_known, torch.inf)

        return Grid(steps, level)

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return a point of a leg: in its first half γ rises, in its second tokens are revealed."""
        ranks, counts = random_ranks(free, generator), self._counts(free)
        num_legs, num_free = len(self.known) - 1, free.sum(-1, keepdim=True)
        leg = (time * num_legs).long()
        half = 2 * (time * num_legs - leg)[:, None]
        rises = half < 1
        snr = torch.tensor(self.snr, dtype=time.dtype, device=free.device)
        begin, end = snr[leg][:, None], snr[leg + 1][:, None]
        rows = torch.arange(len(free), device=free.device)
        num_before, num_after = counts[leg, rows], counts[leg + 1, rows]
        num_due = num_after - num_before
        num_known = num_before + ((half - 1).clamp(min=0) * num_due).long()
        unknown = free & (ranks >= num_known)
        rate = 2 * num_legs * num_due / (num_free - num_known).clamp(min=1)
        level = torch.where(rises, begin + half * (end - begin), end)
        return Point(
            snr=level.expand(free.shape).masked_fill(free & ~unknown, torch.inf),
            speed=(2 * num_legs * (end - begin) * rises * unknown).to(time),
            jump=(rate * ~rises * unknown).to(time),
        )

    def _counts(self, free: Free) -> Int[Tensor, "knots batch 1"]:
        shares = torch.tensor(self.known, dtype=torch.float64)[:, None, None]
        return torch.round(shares * free.sum(-1, keepdim=True).cpu()).long().to(free.device)
