"""Walks that take tokens back: correctors, and the remasking samplers of masked diffusion.

A token that was decided, or that has risen to some SNR, can be taken down again by the channel's
own bridge, exactly and without a model, and walk up once more with the context it has by now. With
the exact denoiser going down and up leaves the law of the text unchanged; with a learned one it
gives early mistakes a second chance. Two kinds:

- `Corrected` wraps any policy: after each of its steps, rounds that rewind some tokens and bring
  them back to where they were.
- `Remasking` is ReMDM (Wang et al. 2025): unmasking in which, between time t and s, a known token
  is masked again with probability σ and a masked one decided with probability

      (α_s - (1 - σ) α_t) / (1 - α_t),      σ ≤ min(1, (1 - α_s)/α_t),

  which keeps the share of known tokens at α on average.

`bound` prices these walks too: the way down is free, the way up costs again.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoiser import Posterior
from stochloc.core.numerics import draw_uniform
from stochloc.core.orders import rank_free
from stochloc.core.paths import offered
from stochloc.core.policies import Pace, Policy
from stochloc.core.streams import Randomness, among

Chosen = Bool[Tensor, "batch length"]
Values = Float[Tensor, "batch length"]


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
    """Take tokens back at random."""

    def order(self, belief: Values, generator: Randomness) -> Values:
        """Return uniform random keys."""
        return draw_uniform(tuple(belief.shape), generator).to(belief)


@dataclass(frozen=True)
class LeastConfident:
    """Take back what the denoiser believed least when it was last asked."""

    def order(self, belief: Values, generator: Randomness) -> Values:
        """Return the belief itself."""
        return belief


class _Belief:
    """How likely each token's value was when the denoiser was last asked about it."""

    def __init__(self, state: State) -> None:
        self.values = torch.ones_like(state.snr)
        self._was_known = state.is_known
        self._asked: Posterior | None = None

    def ask(self, state: State, posterior: Posterior) -> None:
        """Take note of a posterior before the step that uses it."""
        belief = torch.where(state.is_known, self.values, posterior.confidence)
        self.values, self._was_known, self._asked = belief, state.is_known, posterior

    def after(self, state: State) -> Values:
        """Return the belief once the step was taken: decided tokens count as what they became."""
        if self._asked is not None:
            drawn = self._asked.log_prob(state.known.clamp(min=0)).exp()
            decided = state.is_known & ~self._was_known
            self.values = torch.where(decided, drawn, self.values)
            self._was_known = state.is_known
        return self.values


@dataclass(frozen=True)
class Corrected:
    """Another policy with corrector rounds between its steps.

    A round takes a share of the tokens that have risen above `snr` back to it, asks the denoiser,
    and brings them to where they were in one step.

    Attributes:
        policy: The policy whose steps are corrected; it must not rewind tokens itself.
        rounds: Rounds after every step, at least 1, each one denoiser call.
        share: Share of the tokens taken back in a round, in `(0, 1]`; at least one token.
        snr: γ to which they are taken, at least 0; 0 masks them.
        choice: Which tokens are taken back.
    """

    policy: Policy
    rounds: int = 1
    share: float = 0.1
    snr: float = 0.0
    choice: Choice = field(default_factory=LeastConfident)

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
            num_steps: Steps of the policy; the walk takes `1 + rounds` times as many.
            generator: Source of the policy's randomness and of a random choice.

        Returns:
            The pace.

        Raises:
            ValueError: The policy cannot walk in so few steps.
        """
        inner = self.policy.start(state, num_steps, generator)
        if inner.lower is not None:
            raise ValueError("A policy that takes tokens back itself cannot be corrected again.")
        given, belief, period = state.is_known, _Belief(state), 1 + self.rounds
        raised = torch.zeros_like(state.snr)

        def lower(n: int, state: State) -> Values:
            nonlocal raised
            current = belief.after(state)
            if n % period == 0:
                return state.snr
            chosen = self._choose(current, ~given & (state.snr > self.snr), generator)
            raised = torch.where(chosen, state.snr - self.snr, 0.0)
            return torch.where(chosen, self.snr, state.snr)

        def dsnr(n: int, state: State, posterior: Posterior) -> Values:
            belief.ask(state, posterior)
            return inner.dsnr(n // period, state, posterior) if n % period == 0 else raised

        return Pace(inner.steps * period, dsnr, lower, inner.calls_per_step)

    def _choose(self, belief: Values, risen: Chosen, generator: Randomness) -> Chosen:
        count = torch.ceil(self.share * risen.sum(-1, keepdim=True))
        return risen & (rank_free(self.choice.order(belief, generator), risen) < count)


@dataclass(frozen=True)
class RemaskingPlan:
    """ReMDM's schedule for a walk of N steps.

    Attributes:
        known: Share α of tokens known at each of the `N + 1` knots, from 0 to 1.
        remask: Probability σ with which a known token is masked again in each of the N steps.
    """

    known: list[float]
    remask: list[float]


@runtime_checkable
class RemaskingRate(Protocol):
    """How often known tokens are masked again."""

    def plan(self, num_steps: int) -> RemaskingPlan:
        """Return the schedule of a walk of N steps."""
        ...


@dataclass(frozen=True)
class Capped:
    """ReMDM-cap: `σ = min(eta, σ_max)` with α linear in time.

    Attributes:
        eta: In `[0, 1]`.
    """

    eta: float = 0.04

    def __post_init__(self) -> None:
        _check_eta(self.eta)

    def plan(self, num_steps: int) -> RemaskingPlan:
        """Return the schedule."""
        known = _linear(num_steps)
        return RemaskingPlan(known, [min(self.eta, most) for most in _largest(known)])


@dataclass(frozen=True)
class Rescaled:
    """ReMDM-rescale: `σ = eta · σ_max` with α linear in time.

    Attributes:
        eta: In `[0, 1]`.
    """

    eta: float = 0.04

    def __post_init__(self) -> None:
        _check_eta(self.eta)

    def plan(self, num_steps: int) -> RemaskingPlan:
        """Return the schedule."""
        known = _linear(num_steps)
        return RemaskingPlan(known, [self.eta * most for most in _largest(known)])


@dataclass(frozen=True)
class Looped:
    """ReMDM-loop: unmask up to `known`, stay there remasking for a while, then unmask the rest.

    Attributes:
        eta: σ during the loop, in `[0, 1]`, at most `(1 - known)/known`.
        known: Share of tokens known during the loop, in `(0, 1)`.
        begin: Share of the steps before the loop, in `(0, 1)`.
        end: Share of the steps after which the loop is over, in `(begin, 1)`.
    """

    eta: float = 0.02
    known: float = 0.9
    begin: float = 0.45
    end: float = 0.95

    def __post_init__(self) -> None:
        _check_eta(self.eta)
        if not 0 < self.known < 1 or self.eta > (1 - self.known) / self.known:
            raise ValueError(
                "A loop needs a known share in (0, 1) and an eta of at most (1 - known)/known, "
                f"not {self.known} and {self.eta}."
            )
        if not 0 < self.begin < self.end < 1:
            raise ValueError(f"A loop needs 0 < begin < end < 1, not {self.begin} and {self.end}.")

    def plan(self, num_steps: int) -> RemaskingPlan:
        """Return the schedule."""
        times = _linear(num_steps)
        known = [self._known_at(time) for time in times]
        loops = [self.begin <= time < self.end for time in times[:-1]]
        most = _largest(known)
        return RemaskingPlan(
            known, [min(self.eta, m) if loop else 0.0 for loop, m in zip(loops, most, strict=True)]
        )

    def _known_at(self, time: float) -> float:
        if time < self.begin:
            return self.known * time / self.begin
        if time < self.end:
            return self.known
        return self.known + (1 - self.known) * (time - self.end) / (1 - self.end)


@dataclass(frozen=True)
class Remasking:
    """ReMDM: random unmasking in which known tokens are masked again at a rate.

    Attributes:
        rate: The schedule of both.
        by_belief: Whether, in place of all alike, one token's worth of remasking is shared among
            the known tokens in proportion to `exp(-belief)` (ReMDM-conf).
    """

    rate: RemaskingRate = field(default_factory=Capped)
    by_belief: bool = False

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return the sampler as a pace.

        Args:
            state: The start of the walk; tokens known there are never masked.
            num_steps: N, at least 1.
            generator: Source of which tokens are decided and masked.

        Returns:
            The pace.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        steps = offered(num_steps, state.is_known)
        plan, given, belief = self.rate.plan(num_steps), state.is_known, _Belief(state)
        # Tokens decided in a step are not masked in it: only those known before it can be.
        known_before = given.new_zeros(given.shape)

        def draw(source: Randomness = generator) -> Values:
            return draw_uniform(tuple(given.shape), source).to(given.device)

        def lower(n: int, state: State) -> Values:
            nonlocal known_before
            current = belief.after(state)
            # Before the first step no token is known that could be masked, whatever the chance.
            chance = self._chance(plan.remask[n - 1], current, known_before)
            masked = known_before & (draw() < chance)
            known_before = state.is_known & ~given & ~masked
            return torch.where(masked, 0.0, state.snr)

        def dsnr(n: int, state: State, posterior: Posterior) -> Values:
            belief.ask(state, posterior)
            # ReMDM-conf leaves masked tokens the chance they have without remasking.
            kept = plan.known[n] * (1 - (0.0 if self.by_belief else plan.remask[n]))
            chance = (plan.known[n + 1] - kept) / (1 - plan.known[n])
            unfinished = among(generator, ~state.is_known.all(-1))
            decided = ~state.is_known & (draw(unfinished) < chance)
            return torch.zeros_like(state.snr).masked_fill(decided, torch.inf)

        return Pace(steps, dsnr, lower)

    def _chance(self, remask: float, belief: Values, known: Chosen) -> Values | float:
        if not self.by_belief:
            return remask
        weights = torch.exp(-belief).masked_fill(~known, 0.0)
        total = weights.sum(-1, keepdim=True)
        return remask * weights / total.clamp(min=torch.finfo(weights.dtype).tiny)


def _linear(num_steps: int) -> list[float]:
    return [n / num_steps for n in range(num_steps + 1)]


def _largest(known: list[float]) -> list[float]:
    """σ_max of every step: beyond it fewer tokens would be known than the schedule wants."""
    return [
        min(1.0, (1 - after) / before) if before > 0 else 1.0 for before, after in pairwise(known)
    ]


def _check_eta(eta: float) -> None:
    if not 0 <= eta <= 1:
        raise ValueError(f"The strength eta of remasking lies in [0, 1], not {eta}.")
