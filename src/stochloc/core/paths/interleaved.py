"""Unmasking and diffusion at once: the tokens not yet due carry soft evidence.

An interleaved path has two coordinates: the share of tokens that are known, taken in some order,
and the γ that all others have reached. Along one axis it is masked diffusion, along the other
Gaussian diffusion; between them lies every mixture.

The order gives every token a place in [0, 1), and a token is known once the share has passed its
place. Tokens in random order have places in equal steps; spread tokens (`core.paths.spread`) have
those of their groups. For any order in which each place is uniform on [0, 1) that share of the
tokens is known, on average over the order.

The finite-step bound of such a path is a sum over its steps, and the state at each knot is
distributed as the channel, whatever the steps before. So the expected cost of a step depends on its
two ends alone: measured once on a lattice of knots, it gives the cost of every path on the lattice,
and the best path of N steps is found by dynamic programming (`core.tuning`).
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.paths.base import Free, Grid, Path, Point, Snr, Steps, offered, real_type
from stochloc.core.paths.orders import random_ranks
from stochloc.core.paths.spread import draw_turns
from stochloc.core.streams import Randomness


@runtime_checkable
class Order(Protocol):
    """A rule for the order in which tokens become known."""

    def places(self, free: Free, generator: Randomness) -> Float[Tensor, "batch length"]:
        """Return the place of every free token, in `(0, 1)`; those of others have no meaning."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """A random order, drawn per sequence."""

    def places(self, free: Free, generator: Randomness) -> Float[Tensor, "batch length"]:
        """Return `(rank + ½) / L`."""
        ranks = random_ranks(free, generator).to(real_type(free))
        return (ranks + 0.5) / free.sum(-1, keepdim=True).clamp(min=1)


@dataclass(frozen=True)
class Apart:
    """Groups that are spread over the text, in the order of `Spread`.

    Attributes:
        groups: Number of groups G, at least 1. With a power of two, all shares `n/2^k` up to `n/G`
            are unions of whole groups: the tokens due between two such shares are `2^k` apart.
    """

    groups: int

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"An order needs at least one group of tokens, not {self.groups}.")

    def places(self, free: Free, generator: Randomness) -> Float[Tensor, "batch length"]:
        """Return `(turn + ½) / G`, the same for all tokens of a group."""
        turns = draw_turns(offered(self.groups, free), free, generator)
        return (turns.to(real_type(free)) + 0.5) / self.groups


@dataclass(frozen=True)
class Interleaved(Path):
    """A polygon in the plane of known share and γ.

    Its walk always has the steps between its knots: the number of steps asked for is ignored.

    Attributes:
        known: Share of the tokens known at every knot, from 0 to 1, never decreasing.
        snr: γ of the others at every knot, finite, from 0, never decreasing.
        order: The order in which tokens become known.
    """

    known: tuple[float, ...]
    snr: tuple[float, ...]
    order: Order = field(default_factory=Shuffled)

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
        """Return the path's own knots, whatever `num_steps` says, with the order drawn."""
        steps = torch.full_like(offered(num_steps, free), len(self.known) - 1)
        places = self.order.places(free, generator)
        known, snr = self._knots(places)

        def level(n: Steps) -> Snr:
            return snr[n].expand(free.shape).masked_fill(free & (places < known[n]), torch.inf)

        return Grid(steps, level)

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return a point of a leg: in its first half γ rises, in its second tokens are revealed.

        The tokens due are revealed one by one in random order; as on a masked path, each one still
        unknown is equally likely to be next.
        """
        places, num_legs = self.order.places(free, generator).to(time), len(self.known) - 1
        known, snr = self._knots(places)
        leg = (time * num_legs).long()[:, None]
        half = 2 * (time[:, None] * num_legs - leg)
        rises = half < 1
        due = free & (places >= known[leg]) & (places < known[leg + 1])
        num_due = due.sum(-1, keepdim=True)
        num_revealed = ((half - 1).clamp(min=0) * num_due).long()
        revealed = due & (random_ranks(due, generator) < num_revealed)
        unknown = free & (places >= known[leg]) & ~revealed
        rate = 2 * num_legs * num_due / (num_due - num_revealed).clamp(min=1)
        begin, end = snr[leg], snr[leg + 1]
        level = torch.where(rises, begin + half * (end - begin), end)
        return Point(
            snr=level.expand(free.shape).masked_fill(free & ~unknown, torch.inf),
            speed=(2 * num_legs * (end - begin) * rises * unknown).to(time),
            jump=(rate * ~rises * (due & unknown)).to(time),
        )

    def _knots(self, like: Tensor) -> tuple[Float[Tensor, " knots"], Float[Tensor, " knots"]]:
        return like.new_tensor(self.known), like.new_tensor(self.snr)
