"""Corrector rounds: tokens are rewound and drawn again, given the context decided meanwhile.

A round rewinds a set S of tokens by the channel's own bridge, to a state w, and raises them again
to the SNR they had. With a learned denoiser this can correct early mistakes. Its effect on the
distribution of the state depends on two choices.

*Which tokens are rewound.* If the set is drawn independently of the values of the tokens, then w
has the channel's distribution at its lower SNR, and drawing `z_S` from the channel given w
restores the original distribution. A set chosen by the values, for example those of least
confidence, is evidence about them that w does not contain: unlikely values are discarded more often
than they are drawn, and the distribution becomes sharper.

*How they are raised.* That distribution is a product of conditionals, one token after another:

    p(z_S | w) = Π_j p(z_j | z_1, ..., z_(j-1), w),   z_j = w_j + (γ_j - γ) v + √(γ_j - γ) ε,
                                                      v ~ Q(x_j | z_1, ..., z_(j-1), w).

Each factor is one denoiser call and one ancestral step of any length, up to ∞. So with the exact
denoiser `OneByOne` leaves the distribution of a walk unchanged, for any number of tokens, at the
cost of one call for each. `Together` makes one call and draws all of them independently; that is
exact for a single token and ignores the dependence between several.

There are two more conditions. The policy must allocate SNR without using the posterior (as `Follow`
does): otherwise the SNRs of a state carry information about the values, and rounds before all
tokens are known change the distribution, by 0.02 to 0.04 in total variation with `Reveal` on the
priors below. And the distribution that is preserved is that of the exact walk: rounds bring the
distribution of a coarse walk closer to it.

The error of the inexact choices, on a prior of full support over three tokens of three values, one
token decided per step, as the total variation from the prior with 1, 3 and 10 rounds after each
step: one token per round, least confident first, 0.18, 0.31 and 0.36; two at random drawn together
0.22, 0.22 and 0.22; two at random one by one 0 (`tests/core/test_correctors.py`). Other priors of
this kind give 0.12 to 0.26 for the first.
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
from stochloc.core.policies.base import Pace, Policy, Round, check_policy
from stochloc.core.policies.confidence import TokenConfidence
from stochloc.core.streams import Randomness

Chosen = Bool[Tensor, "batch length"]
Values = Float[Tensor, "batch length"]
Ranks = Int[Tensor, "batch length"]


@runtime_checkable
class Choice(Protocol):
    """Which tokens are rewound."""

    def order(self, confidence: Values, generator: Randomness) -> Values:
        """Return a key for every token; those with the smallest keys are rewound first.

        Args:
            confidence: Probability of each token's value: for a decided token the probability with
                which it was drawn, for others that of the most likely value.
            generator: Source of randomness.
        """
        ...


@dataclass(frozen=True)
class AtRandom:
    """Rewind random tokens, independently of their values: the exact distribution is preserved."""

    def order(self, confidence: Values, generator: Randomness) -> Values:
        """Return uniform random keys."""
        return draw_uniform(tuple(confidence.shape), generator).to(confidence)


@dataclass(frozen=True)
class LeastConfident:
    """Rewind the tokens of least confidence: this sharpens the distribution."""

    def order(self, confidence: Values, generator: Randomness) -> Values:
        """Return the confidence itself."""
        return confidence


@runtime_checkable
class Redraw(Protocol):
    """How the rewound tokens are raised again."""

    def rises(self, heights: Values, ranks: Ranks) -> tuple[Values, ...]:
        """Return the steps in γ, each of which costs a denoiser call.

        Args:
            heights: The rise in γ of each token, in `[0, ∞]`; 0 for those that were not rewound.
            ranks: Numbers of the rewound tokens of every sequence, from 0.
        """
        ...


@dataclass(frozen=True)
class OneByOne:
    """Raise them one after another, each given those before it: exact.

    A round costs as many denoiser calls as the largest number of tokens rewound in a sequence.
    """

    def rises(self, heights: Values, ranks: Ranks) -> tuple[Values, ...]:
        """Return a step for each rank."""
        taken = heights > 0
        number = int(taken.sum(-1).max()) if len(taken) else 0
        return tuple(torch.where(taken & (ranks == n), heights, 0.0) for n in range(number))


@dataclass(frozen=True)
class Together:
    """Raise all of them at once, independently: one denoiser call, exact only for one token."""

    def rises(self, heights: Values, ranks: Ranks) -> tuple[Values, ...]:
        """Return one step, or none if nothing was rewound."""
        return (heights,) if bool((heights > 0).any()) else ()


@dataclass(frozen=True)
class Corrected:
    """Another policy with corrector rounds after each of its steps.

    A round rewinds a share of the tokens above `snr` to it, but never below the SNR they had at the
    start of the walk, and raises them again to the SNR they had. With the defaults the distribution
    of an exact walk along a path is unchanged; other choices sharpen it, by the amounts given in
    the module docstring. `bound` refuses such walks.

    Attributes:
        policy: The policy whose steps are corrected; it must not rewind tokens itself.
        rounds: Rounds after every step, at least 1.
        share: Share of the tokens rewound in a round, in `(0, 1]`; at least one token.
        snr: γ to which they are rewound, at least 0; 0 masks them.
        choice: Which tokens are rewound.
        redraw: How they are raised again, and with how many denoiser calls.
    """

    policy: Policy
    rounds: int = 1
    share: float = 0.1
    snr: float = 0.0
    choice: Choice = field(default_factory=AtRandom)
    redraw: Redraw = field(default_factory=OneByOne)

    def __post_init__(self) -> None:
        check_policy(self.policy)
        if self.rounds < 1:
            raise ValueError(f"Correction needs at least one round, not {self.rounds}.")
        if not 0 < self.share <= 1:
            raise ValueError(
                f"The share of tokens taken back must lie in (0, 1], not be {self.share}."
            )
        if not 0 <= self.snr < torch.inf:
            raise ValueError(f"Tokens are taken back to a finite γ of at least 0, not {self.snr}.")

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return the policy's pace with rounds after each step.

        Args:
            state: The start of the walk; tokens known there are never rewound.
            num_steps: Steps of the policy; the rounds are additional.
            generator: Source of the policy's randomness.

        Returns:
            The pace.

        Raises:
            ValueError: The policy cannot walk in so few steps.
        """
        inner = self.policy.start(state, num_steps, generator)
        if inner.lower is not None or inner.rounds is not None:
            raise ValueError(
                "A policy that takes tokens back itself cannot have corrector rounds; use it alone."
            )
        rounds = _Rounds(self, state)
        return replace(inner, floor=state, rounds=rounds, unmasks_by_rule=False, one_by_one=None)


class _Rounds:
    """The rounds at work on one batch."""

    def __init__(self, settings: Corrected, start: State) -> None:
        self.settings, self.confidence = settings, TokenConfidence(start)
        self.number = settings.rounds
        self.level = start.snr.clamp(min=settings.snr)

    def watch(self, before: State, posterior: Posterior, after: State) -> None:
        """Record the confidence in each token's value."""
        self.confidence.ask(before, posterior)
        self.confidence.after(after)

    def plan(self, state: State, rows: Bool[Tensor, " batch"], generator: Randomness) -> Round:
        """Return the next round."""
        settings = self.settings
        risen = (state.snr > self.level) & rows[:, None]
        ranks = rank_free(settings.choice.order(self.confidence.values, generator), risen)
        count = torch.ceil(settings.share * risen.sum(-1, keepdim=True))
        taken = risen & (ranks < count)
        heights = torch.where(taken, state.snr - self.level, 0.0)
        lower = torch.where(taken, self.level, state.snr)
        return Round(lower, settings.redraw.rises(heights, ranks))
