"""Corrector rounds: tokens are taken back and walk up once more with the context they have by now.

A round takes a set S of tokens down by the channel's own bridge, to a state w, and brings them up
again to where they were. With a learned denoiser that gives early mistakes a second chance. What it
does to the law depends on two choices.

*Who is taken back.* Let the set be drawn without a look at the values of the tokens. Then w has the
law of the channel at its lower SNR, and whoever draws `z_S` from the law of the channel given w
restores the law that there was. A set chosen by values, the least believed say, is evidence about
them that w does not hold: what was unlikely is thrown away more often than it is drawn, and the law
sharpens.

*How they come up.* That law is a product of conditionals, one token after another:

    p(z_S | w) = Π_j p(z_j | z_1, ..., z_(j-1), w),   z_j = w_j + (γ_j - γ) v + √(γ_j - γ) ε,
                                                      v ~ Q(x_j | z_1, ..., z_(j-1), w).

Each factor is one denoiser call and one ancestral step of any length, up to ∞. So with the exact
denoiser `OneByOne` leaves the law of a walk unchanged, for any number of tokens, at the price of a
call for each. `Together` asks once and draws all of them independently; that is exact for a single
token and forgets what ties several together.

Two conditions more. The policy must not look at the posterior when it hands out SNR (`Follow` does
not): else the SNRs of a state tell of values, and rounds before all tokens are known change the
law, by 0.02 to 0.04 in total variation with `Reveal` on the priors below. And the law restored is
that of the exact walk: rounds bring a coarse walk's law nearer to it.

How far the inexact ones go, on a prior of full support over three tokens of three values, one token
decided a step, in total variation from the prior with 1, 3 and 10 rounds after each step: one token
a round, least confident first, 0.18, 0.31 and 0.36; two at random drawn together 0.22, 0.22 and
0.22; two at random one by one 0 (`tests/core/test_correctors.py`). Other priors of the kind give
0.12 to 0.26 for the first.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Posterior
from stochloc.core.numerics import draw_uniform
from stochloc.core.paths.orders import rank_free
from stochloc.core.policies.base import Pace, Policy, Round
from stochloc.core.policies.confidence import TokenConfidence
from stochloc.core.streams import Randomness

Chosen = Bool[Tensor, "batch length"]
Values = Float[Tensor, "batch length"]
Ranks = Int[Tensor, "batch length"]


@runtime_checkable
class Choice(Protocol):
    """Which tokens are taken back."""

    def order(self, belief: Values, generator: Randomness) -> Values:
        """Return a key for every token; those with the smallest keys are taken first.

        Args:
            belief: Probability of each token's value: for a decided token the one it was drawn
                with, for others that of the most likely value.
            generator: Source of randomness.
        """
        ...


@dataclass(frozen=True)
class AtRandom:
    """Take tokens back at random: whatever their values are, so the exact law is kept."""

    def order(self, belief: Values, generator: Randomness) -> Values:
        """Return uniform random keys."""
        return draw_uniform(tuple(belief.shape), generator).to(belief)


@dataclass(frozen=True)
class LeastConfident:
    """Take back what the denoiser believed least when it was last asked: this sharpens the law."""

    def order(self, belief: Values, generator: Randomness) -> Values:
        """Return the belief itself."""
        return belief


@runtime_checkable
class Redraw(Protocol):
    """How the tokens taken back come up again."""

    def rises(self, heights: Values, ranks: Ranks) -> tuple[Values, ...]:
        """Return the steps in γ, each of which costs a denoiser call.

        Args:
            heights: What each token has to rise, in `[0, ∞]`; 0 for those that were not taken.
            ranks: A number for each token taken, from 0, in every sequence.
        """
        ...


@dataclass(frozen=True)
class OneByOne:
    """Bring them up one after another, each in the light of those before: exact.

    A round costs as many denoiser calls as tokens are taken back, in the sequence that takes most.
    """

    def rises(self, heights: Values, ranks: Ranks) -> tuple[Values, ...]:
        """Return a step for each rank."""
        taken = heights > 0
        number = int(taken.sum(-1).max()) if len(taken) else 0
        return tuple(torch.where(taken & (ranks == n), heights, 0.0) for n in range(number))


@dataclass(frozen=True)
class Together:
    """Bring them all up at once, independently: one denoiser call, exact for one token alone."""

    def rises(self, heights: Values, ranks: Ranks) -> tuple[Values, ...]:
        """Return one step, or none where nothing was taken back."""
        return (heights,) if bool((heights > 0).any()) else ()


@dataclass(frozen=True)
class Corrected:
    """Another policy with corrector rounds after each of its steps.

    A round takes a share of the tokens that have risen above `snr` back to it, though never below
    the SNR they had at the start of the walk, and brings them to where they were. With the defaults
    it leaves the law of an exact walk along a path unchanged; other choices sharpen it, by what the
    module's text says. `bound` refuses such walks.

    Attributes:
        policy: The policy whose steps are corrected; it must not rewind tokens itself.
        rounds: Rounds after every step, at least 1.
        share: Share of the tokens taken back in a round, in `(0, 1]`; at least one token.
        snr: γ to which they are taken, at least 0; 0 masks them.
        choice: Which tokens are taken back.
        redraw: How they come up again, and for how many denoiser calls.
    """

    policy: Policy
    rounds: int = 1
    share: float = 0.1
    snr: float = 0.0
    choice: Choice = field(default_factory=AtRandom)
    redraw: Redraw = field(default_factory=OneByOne)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"Correction needs at least one round, not {self.rounds}.")
        if not 0 < self.share <= 1:
            raise ValueError(f"The share of tokens taken back lies in (0, 1], not {self.share}.")
        if not 0 <= self.snr < torch.inf:
            raise ValueError(f"Tokens are taken back to a finite γ of at least 0, not {self.snr}.")

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return the policy's pace with rounds after each step.

        Args:
            state: The start of the walk; tokens known there are never taken back.
            num_steps: Steps of the policy; rounds come on top of them.
            generator: Source of the policy's randomness.

        Returns:
            The pace.

        Raises:
            ValueError: The policy cannot walk in so few steps.
        """
        inner = self.policy.start(state, num_steps, generator)
        if inner.lower is not None or inner.rounds is not None:
            raise ValueError("A policy that takes tokens back itself cannot be corrected again.")
        return replace(inner, floor=state, rounds=_Rounds(self, state))


class _Rounds:
    """The rounds at work on one batch."""

    def __init__(self, settings: Corrected, start: State) -> None:
        self.settings, self.belief = settings, TokenConfidence(start)
        self.number = settings.rounds
        self.level = start.snr.clamp(min=settings.snr)

    def watch(self, before: State, posterior: Posterior, after: State) -> None:
        """Take note of what was believed of each token's value."""
        self.belief.ask(before, posterior)
        self.belief.after(after)

    def plan(self, state: State, rows: Bool[Tensor, " batch"], generator: Randomness) -> Round:
        """Return the next round."""
        settings = self.settings
        risen = (state.snr > self.level) & rows[:, None]
        ranks = rank_free(settings.choice.order(self.belief.values, generator), risen)
        count = torch.ceil(settings.share * risen.sum(-1, keepdim=True))
        taken = risen & (ranks < count)
        heights = torch.where(taken, state.snr - self.level, 0.0)
        lower = torch.where(taken, self.level, state.snr)
        return Round(lower, settings.redraw.rises(heights, ranks))
