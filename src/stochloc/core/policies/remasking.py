"""ReMDM (Wang et al. 2025): unmasking in which known tokens are masked again.

Between time t and s, a known token is masked again with probability σ and a masked one decided with
probability

    (α_s - (1 - σ) α_t) / (1 - α_t),      σ ≤ min(1, (1 - α_s)/α_t),

which keeps the share of known tokens at α on average. A token that was softly masked at the start
is rewound to the evidence it had there, not to `z = 0`.

`bound` holds for these walks: remasking has the same distribution in the sampler and in the guided
walk and cancels. The bound is loose, because it counts the cost of every decision of a token. On a
prior over two bits with an entropy of 1.182 nats, six steps of `Rescaled` at η = 0, 0.1, 0.3 and 1
are bounded by 1.194, 1.313, 1.552 and 2.388 nats, while the average -log probability under the
samplers' exact distributions is 1.185 to 1.191
(`tests/core/test_remasking_bound.py`).
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Posterior
from stochloc.core.numerics import draw_uniform
from stochloc.core.paths.base import offered
from stochloc.core.policies.base import Pace
from stochloc.core.policies.confidence import TokenConfidence
from stochloc.core.streams import Randomness, among

Chosen = Bool[Tensor, "batch length"]
Values = Float[Tensor, "batch length"]


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
        by_confidence: Whether, instead of a uniform probability, one token's worth of remasking is
            divided among the known tokens in proportion to `exp(-confidence)` (ReMDM-conf).
    """

    rate: RemaskingRate = field(default_factory=Capped)
    by_confidence: bool = False

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
        plan, given, confidence = self.rate.plan(num_steps), state.is_known, TokenConfidence(state)
        # Tokens decided in a step are not masked in it: only those known before it can be.
        known_before = given.new_zeros(given.shape)

        def draw(source: Randomness = generator) -> Values:
            return draw_uniform(tuple(given.shape), source).to(given.device)

        def lower(n: int, state: State) -> Values:
            nonlocal known_before
            current = confidence.after(state)
            # Before the first step there is no token that could be masked, whatever the chance.
            chance = self._chance(plan.remask[n - 1], current, known_before)
            masked = known_before & (draw() < chance)
            known_before = state.is_known & ~given & ~masked
            return torch.where(masked, 0.0, state.snr)

        def dsnr(n: int, state: State, posterior: Posterior) -> Values:
            confidence.ask(state, posterior)
            # In ReMDM-conf masked tokens are decided as often as without remasking.
            kept = plan.known[n] * (1 - (0.0 if self.by_confidence else plan.remask[n]))
            chance = (plan.known[n + 1] - kept) / (1 - plan.known[n])
            unfinished = among(generator, ~state.is_known.all(-1))
            decided = ~state.is_known & (draw(unfinished) < chance)
            return torch.zeros_like(state.snr).masked_fill(decided, torch.inf)

        return Pace(steps, dsnr, lower, floor=state)

    def _chance(self, remask: float, confidence: Values, known: Chosen) -> Values | float:
        if not self.by_confidence:
            return remask
        weights = torch.exp(-confidence).masked_fill(~known, 0.0)
        total = weights.sum(-1, keepdim=True)
        return remask * weights / total.clamp(min=torch.finfo(weights.dtype).tiny)


def _linear(num_steps: int) -> list[float]:
    return [n / num_steps for n in range(num_steps + 1)]


def _largest(known: list[float]) -> list[float]:
    """σ_max of every step: with a larger σ fewer tokens than α could be known after it."""
    return [
        min(1.0, (1 - after) / before) if before > 0 else 1.0 for before, after in pairwise(known)
    ]


def _check_eta(eta: float) -> None:
    if not 0 <= eta <= 1:
        raise ValueError(f"The strength eta of remasking must lie in [0, 1], not be {eta}.")
