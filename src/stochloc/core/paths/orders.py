"""Paths that decide tokens one after another: masked, autoregressive, block and rolling.

They differ in which tokens are in motion at a time. Masked and autoregressive paths move one token
(or one group, when a walk has fewer steps than tokens) from 0 to ∞ and keep the others at either
end (paper eq. 4 and 7). A block path moves the tokens of one block along a path of its own. A
rolling path moves a window whose tokens are the more certain the longer they have been in it.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.numerics import draw_uniform
from stochloc.core.paths.base import (
    Free,
    Grid,
    Path,
    Point,
    Snr,
    Steps,
    check_path,
    offered,
    reveal_in_turns,
    share_of_time,
    turns_taken,
)
from stochloc.core.paths.spacings import Lomax, Spacing, check_spacing
from stochloc.core.streams import Randomness


@dataclass(frozen=True)
class Masked(Path):
    """Tokens go from 0 to ∞ in a random order: the path of masked diffusion (paper 2, eq. 4).

    A walk of N steps reveals `L/N` tokens at a time; the line integral reveals one at a time.
    """

    @property
    def snr_end(self) -> float:
        """All tokens end known."""
        return math.inf

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return a grid that reveals equal groups of a random order, drawn per sequence."""
        return _reveal_in_groups(num_steps, random_ranks(free, generator), free)

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return a random share `t` of tokens known; each other one is equally likely to be next.

        Averaging over which token is next, instead of drawing it, is what gives masked diffusion
        its low-variance bound: with n of L tokens known the rest jump at the rate `L/(L - n)`.
        """
        ranks, num_free = random_ranks(free, generator), free.sum(-1, keepdim=True)
        num_known = (time[:, None] * num_free).long()
        unknown = free & (ranks >= num_known)
        zero = torch.zeros(free.shape, dtype=time.dtype, device=free.device)
        rate = num_free / (num_free - num_known).clamp(min=1)
        return Point(zero.masked_fill(~unknown, torch.inf), zero, unknown * rate.to(zero))


@dataclass(frozen=True)
class Autoregressive(Path):
    """Tokens go from 0 to ∞ one after another in a fixed order (paper eq. 4, `C_AR`).

    With as many steps as tokens the walk is the chain rule `Σ -log Q(x_i|x_<i)`; with fewer, runs
    of neighbours in the order are decided together.

    Attributes:
        order: A permutation of the positions, first to last; left to right when absent.
    """

    order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ValueError("The order of an autoregressive path must be a permutation of 0..L-1.")

    @property
    def snr_end(self) -> float:
        """All tokens end known."""
        return math.inf

    @property
    def unmasks_by_rule(self) -> bool:
        """The order is given."""
        return True

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return a grid that reveals equal runs of the order."""
        return _reveal_in_groups(num_steps, self._ranks(free), free)

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return a prefix of the order known; the next token jumps at the rate L."""
        ranks, num_free = self._ranks(free), free.sum(-1, keepdim=True)
        num_known = (time[:, None] * num_free).long()
        zero = torch.zeros(free.shape, dtype=time.dtype, device=free.device)
        snr = zero.masked_fill(free & (ranks < num_known), torch.inf)
        return Point(snr, zero, (free & (ranks == num_known)) * num_free.to(zero))

    def _ranks(self, free: Free) -> Int[Tensor, "batch length"]:
        length = free.shape[-1]
        order = torch.tensor(self.order if self.order is not None else range(length))
        if len(order) != length:
            raise ValueError(f"The order has {len(order)} positions, the sequences have {length}.")
        return rank_free(order.argsort().to(free.device).expand(free.shape), free)


@dataclass(frozen=True)
class Block(Path):
    """Blocks of neighbours from left to right, each along a path of its own.

    Attributes:
        size: Tokens per block; the last block may be shorter.
        inner: The path inside a block; it must end at ∞.
    """

    size: int
    inner: Path

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"A block needs at least one token, not {self.size}.")
        check_path(self.inner)
        if self.inner.snr_end < math.inf:
            raise ValueError("The path inside a block must decide its tokens: add .then(Decode()).")

    @property
    def snr_end(self) -> float:
        """All tokens end known."""
        return math.inf

    @property
    def rises_to_infinity(self) -> bool:
        """Whether the inner path does so."""
        return self.inner.rises_to_infinity

    @property
    def unmasks_by_rule(self) -> bool:
        """Whether the inner path does so."""
        return self.inner.unmasks_by_rule

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return the inner grids one after another, the steps shared equally among the blocks."""
        blocks, steps = free.split(self.size, dim=-1), offered(num_steps, free)
        if bool((steps < len(blocks)).any()):
            raise ValueError(
                f"{len(blocks)} blocks of {self.size} tokens need at least {len(blocks)} steps, "
                f"not {int(steps.min())}."
            )
        ends = [steps * b // len(blocks) for b in range(len(blocks) + 1)]
        shares = [end - begin for begin, end in pairwise(ends)]
        grids = [
            self.inner.draw(share, block, generator)
            for share, block in zip(shares, blocks, strict=True)
        ]
        return _one_after_another(grids)

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return one block in motion, those before it known, those after it at 0."""
        length = free.shape[-1]
        num_blocks = -(-length // self.size)
        block = (time * num_blocks).long()
        columns = block[:, None] * self.size + torch.arange(self.size, device=free.device)
        inside = columns < length
        columns = columns.clamp(max=length - 1)
        local = self.inner.at(
            time * num_blocks - block, free.gather(-1, columns) & inside, generator
        ).slowed(1 / num_blocks)
        zero = torch.zeros(free.shape, dtype=time.dtype, device=free.device)
        done = torch.arange(length, device=free.device) < block[:, None] * self.size
        # Columns past the end were folded onto the last one: they must add nothing there.
        speed = zero.scatter_add(-1, columns, local.speed.masked_fill(~inside, 0.0))
        jump = zero.scatter_add(-1, columns, local.jump.masked_fill(~inside, 0.0))
        snr = zero.scatter_add(-1, columns, local.snr.masked_fill(~inside, 0.0))
        return Point(snr.masked_fill(done, torch.inf), speed, jump)


@dataclass(frozen=True)
class Rolling(Path):
    """A window slides from left to right; inside it the SNR falls from ∞ to 0 (rolling diffusion).

    Token i starts when the window reaches it and is decided when the window has passed.

    Attributes:
        window: Tokens in motion at any time, at least 1.
        spacing: How a token spends its time in the window. Where it ends at a finite γ, the token
            jumps from there to ∞.
    """

    window: int
    spacing: Spacing = field(default_factory=lambda: Lomax(snr_max=50.0))

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"A rolling window needs at least one token, not {self.window}.")
        check_spacing(self.spacing)

    @property
    def snr_end(self) -> float:
        """All tokens end known."""
        return math.inf

    @property
    def rises_to_infinity(self) -> bool:
        """Whether the spacing is unbounded."""
        return self.spacing.snr_max == math.inf

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return knots at equal times of the sliding window."""
        steps = offered(num_steps, free)
        return Grid(steps, lambda n: self._snr(self._progress(share_of_time(n, steps)[:, 0], free)))

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return the window in motion; a quarter of the times fall on a token about to jump."""
        if self.spacing.snr_max == math.inf:
            return self._moving(time, free)
        jump_share = 0.25
        moving = self._moving(time / (1 - jump_share), free).slowed(1 - jump_share)
        is_jump = (time >= 1 - jump_share)[:, None]
        jumping = self._jumping((time - 1 + jump_share) / jump_share, free).slowed(jump_share)
        return Point(
            torch.where(is_jump, jumping.snr, moving.snr),
            torch.where(is_jump, jumping.speed, moving.speed),
            torch.where(is_jump, jumping.jump, moving.jump),
        )

    def _progress(self, time: Float[Tensor, " batch"], free: Free) -> Snr:
        length = free.shape[-1]
        position = torch.arange(length, device=free.device)
        return (time[:, None] * (length + self.window - 1) - position) / self.window

    def _snr(self, progress: Snr) -> Snr:
        # Rounding must not keep a token waiting at the end of the window.
        arrived = progress > 1 - 16 * torch.finfo(progress.dtype).eps
        return self.spacing.quantile(progress.clamp(0, 1)).masked_fill(arrived, torch.inf)

    def _moving(self, time: Float[Tensor, " batch"], free: Free) -> Point:
        progress = self._progress(time, free)
        inside = (progress > 0) & (progress < 1) & free
        per_time = (free.shape[-1] + self.window - 1) / self.window
        speed = (self.spacing.rate(progress.clamp(0, 1)) * per_time).masked_fill(~inside, 0.0)
        return Point(self._snr(progress), speed, torch.zeros_like(speed))

    def _jumping(self, time: Float[Tensor, " batch"], free: Free) -> Point:
        length = free.shape[-1]
        token = (time.clamp(min=0) * length).long()
        arrival = (token + self.window) / (length + self.window - 1)
        jumps = torch.arange(length, device=free.device) == token[:, None]
        snr = self._snr(self._progress(arrival.to(time), free))
        snr = snr.masked_fill(jumps, self.spacing.snr_max)
        return Point(snr, torch.zeros_like(snr), (jumps & free) * float(length))


def rank_free(
    keys: Float[Tensor, "batch length"] | Int[Tensor, "batch length"], free: Free
) -> Int[Tensor, "batch length"]:
    """Rank the free tokens of each row by key, the smallest first.

    Args:
        keys: What to rank by; of equal keys the token further left comes first.
        free: Which tokens to rank.

    Returns:
        Ranks from 0; tokens that are not free rank after all others.
    """
    by_key = keys.argsort(dim=-1, stable=True)
    free_first = (~free).gather(-1, by_key).int().argsort(dim=-1, stable=True)
    return by_key.gather(-1, free_first).argsort(-1)


def random_ranks(free: Free, generator: Randomness) -> Int[Tensor, "batch length"]:
    """Return a random order of the free tokens of each row; the others rank after them."""
    return rank_free(draw_uniform(tuple(free.shape), generator).to(free.device), free)


def _reveal_in_groups(
    num_steps: int | Steps, ranks: Int[Tensor, "batch length"], free: Free
) -> Grid:
    steps, num_free = turns_taken(num_steps, free), free.sum(-1, keepdim=True)
    return reveal_in_turns(ranks * steps // num_free.clamp(min=1), steps, free)


def _one_after_another(grids: list[Grid]) -> Grid:
    ends = torch.stack([grid.steps for grid in grids]).cumsum(0)
    starts = [end - grid.steps for end, grid in zip(ends, grids, strict=True)]

    def level(n: Steps) -> Snr:
        local = [
            grid.snr((n - start).clamp(min=0)) for grid, start in zip(grids, starts, strict=True)
        ]
        return torch.cat(local, dim=-1)

    return Grid(ends[-1], level)
