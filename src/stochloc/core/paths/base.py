"""Paths through SNR space: which token becomes certain when.

A path is a curve `γ(t)`, `t ∈ [0, 1]`, of the SNR of every token, never decreasing, from 0 to its
end, usually ∞. Because `-log P(x)` is the line integral of a gradient (paper eq. 3, A.2), every
path gives the same result with the exact denoiser. Autoregression, unmasking and diffusion are
paths; they differ in how well a learned denoiser and a finite number of steps follow them.

A path has two methods.

- `draw`: the knots of a walk of N steps, a `Grid` of SNRs with row 0 at `γ = 0`. Paths with a
  random order draw it here, once per sequence.
- `at`: the path at a time t: the SNR of every token, the speed `dγ_i/dt` of the tokens that move
  continuously, and the rate at which tokens jump to ∞. Jumps are integrated exactly: by eq. 7 of
  the paper the integral of `½E_i` over a jump of one token is `-log Q(x_i|z)`. So

      -log P(x) = ∫₀¹ E_z [ Σ_i ½ speed_i ‖x_i - x̂_i‖² - jump_i log Q(x_i|z) ] dt,

  plus the cost of tokens still uncertain at the end of the path. Several tokens that jump at once
  are decided independently: then the right side is an upper bound.

Only *free* tokens move: those known from the start (a prompt) are not part of any order.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core.checks import check_kind
from stochloc.core.streams import Randomness

Free = Bool[Tensor, "batch length"]
Snr = Float[Tensor, "batch length"]
Steps = Int[Tensor, "batch 1"]


@dataclass(frozen=True)
class Grid:
    """The knots of a walk; sequences with fewer tokens to decide may have fewer of them.

    Attributes:
        steps: Number of steps N of every sequence, between its `N + 1` knots.
        level: Returns the SNR of every token, given the number of each sequence's knot, 0 to N.
        one_by_one: The step that decides each free token, from 0, where every step takes one token
            from wherever it is to ∞; None where some step does otherwise.
    """

    steps: Steps
    level: Callable[[Steps], Snr]
    one_by_one: Int[Tensor, "batch length"] | None = None

    @property
    def num_steps(self) -> int:
        """The largest number of steps of any sequence."""
        return most(self.steps)

    def snr(self, n: int | Steps) -> Snr:
        """Return the SNR of every token at a knot.

        Args:
            n: Number of the knot, one for all sequences or one for each, at least 0; a sequence
                with fewer knots stays at its last.

        Returns:
            γ, in `[0, ∞]`.
        """
        return self.level(torch.minimum(torch.as_tensor(n, device=self.steps.device), self.steps))

    def stack(self) -> Float[Tensor, "knots batch length"]:
        """Return all knots as one tensor."""
        return torch.stack([self.snr(n) for n in range(self.num_steps + 1)])


@dataclass(frozen=True)
class Point:
    """A path at one time for each sequence.

    Attributes:
        snr: γ of every token, in `[0, ∞]`.
        speed: `dγ/dt` of every token that moves continuously, 0 elsewhere.
        jump: Expected number of jumps to ∞ per unit of time, 0 where a token does not jump. The
            whole path takes one unit of time, `t` from 0 to 1. So the integral of the rate over
            `[0, 1]`, averaged over the random order of the path, is the number of jumps that the
            token makes: 1 if it reaches ∞ by a jump, 0 if it never jumps.
    """

    snr: Snr
    speed: Snr
    jump: Snr

    def slowed(self, share: float) -> "Point":
        """Return the point of the path when it is given only the fraction `share` of the time.

        Args:
            share: In `(0, 1]`.

        Returns:
            The same SNR with speed and jump rate divided by `share`.
        """
        return Point(self.snr, self.speed / share, self.jump / share)


class Path(ABC):
    """A curve of the SNR of every token, from 0 to `snr_end`."""

    @property
    @abstractmethod
    def snr_end(self) -> float:
        """The lowest SNR of a free token at the end; ∞ when the path decides all tokens itself."""

    @property
    def rises_to_infinity(self) -> bool:
        """Whether some token goes to ∞ continuously, not by a jump."""
        return False

    @property
    def unmasks_by_rule(self) -> bool:
        """Whether its walks take tokens from 0 to ∞ at once, in an order that is not drawn."""
        return False

    def end(self, free: Free) -> Snr:
        """Return the SNR of every token at the end of the path.

        Args:
            free: Which tokens move.

        Returns:
            `snr_end` for every token, unless the path says otherwise.
        """
        return torch.full(free.shape, self.snr_end, dtype=real_type(free), device=free.device)

    @abstractmethod
    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return the knots of a walk of at most `num_steps` steps.

        Args:
            num_steps: Steps requested, at least 1, one number for all sequences or one for each; a
                path with fewer decisions takes fewer.
            free: Which tokens move.
            generator: Source of a random order.

        Returns:
            The grid, with `γ = 0` at knot 0 and `snr_end` at the last, for free tokens.

        Raises:
            ValueError: The path cannot be walked in so few steps.
        """

    @abstractmethod
    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return the path at a time; a random path is drawn anew.

        Args:
            time: In `[0, 1)`, one for each sequence.
            free: Which tokens move.
            generator: Source of a random order.

        Returns:
            SNR, speed and jump rate of every token.
        """

    def then(self, second: "Path", share: float = 0.5) -> "Then":
        """Return the path that follows this one to its end and then `second` (paper eq. 5, `C*`).

        Args:
            second: The next path; a token waits until it reaches the SNR that the token has, and
                stays where it is if `second` ends below that.
            share: Share of the steps and of the time given to `second`, in `(0, 1)`.

        Returns:
            The joined path.

        Raises:
            ValueError: This path ends at ∞ for every token, `second` is not a path, or the share
                is out of its range.
        """
        return Then(self, second, share)


@dataclass(frozen=True)
class Then(Path):
    """One path after another (paper eq. 5: the hybrid path `C*`).

    Attributes:
        first: The first path, followed to its end, which is below ∞ for at least one token.
        second: The second path; a token rises to the larger of both SNRs.
        share: Share of the steps (at least one) and of the time given to `second`, in `(0, 1)`.
    """

    first: Path
    second: Path
    share: float = 0.5

    def __post_init__(self) -> None:
        for path in (self.first, self.second):
            check_path(path)
        if not 0 < self.share < 1:
            raise ValueError(f"The share of the second path must lie in (0, 1), not {self.share}.")
        if self.first.snr_end == torch.inf:
            raise ValueError(
                "A path that ends at γ = ∞ leaves nothing for a second path to decide; let the "
                "first end at a finite γ, as Diffusion(Uniform(3.0)) does."
            )

    @property
    def snr_end(self) -> float:
        """The larger of both ends."""
        return max(self.first.snr_end, self.second.snr_end)

    @property
    def rises_to_infinity(self) -> bool:
        """Whether one of the paths rises to ∞ continuously."""
        return self.first.rises_to_infinity or self.second.rises_to_infinity

    @property
    def unmasks_by_rule(self) -> bool:
        """Whether both paths do."""
        return self.first.unmasks_by_rule and self.second.unmasks_by_rule

    def end(self, free: Free) -> Snr:
        """Return the larger of both ends, token by token."""
        return torch.maximum(self.first.end(free), self.second.end(free))

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return both grids in turn; with a single step, the second path alone."""
        steps = offered(num_steps, free)
        wanted = torch.minimum((self.share * steps).round().long(), steps - 1).clamp(min=1)
        second = self.second.draw(wanted, free, generator)
        first = self.first.draw((steps - second.steps).clamp(min=1), free, generator)
        joint = first.steps.masked_fill(steps == 1, 0)
        return Grid(
            joint + second.steps,
            lambda n: torch.maximum(
                first.snr(torch.minimum(n, joint)), second.snr((n - joint).clamp(min=0))
            ),
        )

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return a point of the first path or of the second, each slowed to its share."""
        is_first = (time < 1 - self.share)[:, None]
        early = (time / (1 - self.share)).clamp(max=1 - torch.finfo(time.dtype).eps)
        late = ((time - 1 + self.share) / self.share).clamp(0, 1 - torch.finfo(time.dtype).eps)
        first = self.first.at(early, free, generator).slowed(1 - self.share)
        second = self.second.at(late, free, generator).slowed(self.share)
        reached = self.first.end(free).to(second.snr)
        waits = second.snr < reached
        return Point(
            torch.where(is_first, first.snr, torch.maximum(second.snr, reached)),
            torch.where(is_first, first.speed, second.speed.masked_fill(waits, 0.0)),
            torch.where(is_first, first.jump, second.jump),
        )


def check_path(value: object) -> None:
    """Refuse, with a `ValueError`, what is not a path."""
    check_kind(value, Path, "A path such as Masked()")


def real_type(free: Free) -> torch.dtype:
    """Return float64, or float32 on a device that has no float64."""
    return torch.float32 if free.is_mps else torch.float64


def turns_taken(num_steps: int | Steps, free: Free) -> Steps:
    """Return in how many turns the free tokens of each sequence are decided.

    Args:
        num_steps: Turns requested, one number for all sequences or one for each, at least 1.
        free: Which tokens to decide.

    Returns:
        The numbers, at least 1, and no more than there are free tokens.

    Raises:
        ValueError: A number is below 1 or not a whole number.
    """
    num_free = free.sum(-1, keepdim=True)
    return torch.minimum(offered(num_steps, free), num_free).clamp(min=1)


def reveal_in_turns(turns: Int[Tensor, "batch length"], steps: Steps, free: Free) -> Grid:
    """Return a grid that takes every free token from 0 to ∞ at its turn.

    Args:
        turns: The turn of every free token, from 0, below the number of steps.
        steps: What `turns_taken` returns.
        free: Which tokens to decide.

    Returns:
        The grid; it knows of itself whether tokens are decided one by one.
    """
    zero = torch.zeros(free.shape, dtype=real_type(free), device=free.device)
    return Grid(
        steps,
        lambda n: zero.masked_fill(free & (turns < n), torch.inf),
        turns if bool((steps >= free.sum(-1, keepdim=True)).all()) else None,
    )


def offered(num_steps: int | Steps, tokens: Bool[Tensor, "batch length"]) -> Steps:
    """Return the number of steps offered to every sequence.

    Args:
        num_steps: One whole number for all sequences, or one for each, `(B, 1)`.
        tokens: A mask of the tokens; only its device and number of sequences are used.

    Returns:
        The numbers, one for each sequence, on the device of the tokens.

    Raises:
        ValueError: A number is below 1 or not a whole number.
    """
    steps = torch.as_tensor(num_steps, device=tokens.device)
    if steps.is_floating_point():
        raise ValueError(f"The number of steps is a whole number, not {num_steps}.")
    if bool((steps < 1).any()):
        raise ValueError(f"A walk needs at least one step, not {int(steps.min())}.")
    return steps.expand(len(tokens), 1)


def most(steps: Steps) -> int:
    """Return the largest number of steps, 0 where there are no sequences."""
    return int(steps.max()) if len(steps) else 0


def share_of_time(n: Steps, steps: Steps) -> Float[Tensor, "batch 1"]:
    """Return `n/N`, the time at which a walk of N equal shares of time has taken n steps.

    Args:
        n: Number of the knot of every sequence, from 0 to N.
        steps: N of every sequence, at least 1.

    Returns:
        Numbers in `[0, 1]`: 0 at the start of a sequence's walk and 1 at its end.
    """
    real = torch.float32 if steps.is_mps else torch.float64
    return n.to(real) / steps
