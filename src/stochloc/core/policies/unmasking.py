"""Policies of masked models: decide the most certain tokens first; and their soft versions.

Masked models unmask in an order that depends on the posterior: the most confident token first, the
one of least entropy first, a fixed number at a time, or all above a threshold. In SNR space each is
a rule that sends some tokens to ∞ and leaves the others where they are. In the soft version no
token goes to ∞ at once: a step has a budget of SNR, which is divided among the tokens in proportion
to their certainty.

Using the posterior to choose which token is decided, but not its value, keeps the bound valid: the
guided walk makes the same choices from the same states. However, an order that prefers confident
tokens is not a random order, so the sampler's distribution differs from the denoiser's even with
one token per step; `bound` measures by how much. With the exact denoiser it does not differ.

A rule that draws nothing leaves a single way to a text: what is revealed in a step follows from
what was revealed before. The sampler's distribution is then the product of the steps' posteriors,
and `bound` is its exact `-log P`, one number for each text at any number of steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Posterior
from stochloc.core.paths.base import Steps, offered, real_type
from stochloc.core.paths.orders import rank_free
from stochloc.core.paths.spacings import Lomax, Spacing, check_spacing
from stochloc.core.policies.base import Pace
from stochloc.core.policies.certainties import Certainty, Confidence
from stochloc.core.streams import Randomness

# The certainties of a batch, its unknown tokens, and how many of each sequence are due.
Choose = Callable[[Tensor, Tensor, Steps], Tensor]


@dataclass(frozen=True)
class Reveal:
    """Decide equal numbers of tokens per step, the most certain first.

    Attributes:
        certainty: The measure of certainty. Of equally certain tokens the left one comes first.
    """

    certainty: Certainty = field(default_factory=Confidence)

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return a pace that decides `L/N` tokens per step.

        Args:
            state: The start of the walk; only unknown tokens are counted and decided.
            num_steps: Steps requested, at least 1; no more are taken than there are unknown tokens.
            generator: Not used.

        Returns:
            The pace.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        return in_equal_shares(self.certainty, _most_certain, state, num_steps)


@dataclass(frozen=True)
class RevealAbove:
    """Decide all tokens whose certainty reaches a threshold, at least one per step and sequence.

    Attributes:
        threshold: In `(0, 1]`.
        certainty: The measure of certainty.
    """

    threshold: float = 0.9
    certainty: Certainty = field(default_factory=Confidence)

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(
                f"A threshold of certainty must lie in (0, 1], not be {self.threshold}."
            )

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return a pace that takes as many steps as it needs.

        Args:
            state: The start of the walk.
            num_steps: The largest number of steps, at least 1; after them all tokens are decided.
            generator: Not used.

        Returns:
            The pace.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        steps = offered(num_steps, state.is_known)

        def dsnr(n: int, state: State, posterior: Posterior) -> Float[Tensor, "batch length"]:
            certainty = self.certainty(posterior)
            chosen = (certainty >= self.threshold) | (rank_free(-certainty, ~state.is_known) < 1)
            return _to_infinity(state, chosen | (n + 1 == num_steps))

        return Pace(steps, dsnr, unmasks_by_rule=True)


@dataclass(frozen=True)
class Share:
    """Divide a budget of SNR among the tokens in proportion to their certainty.

    The budget of a step is the total SNR that `Diffusion(spacing)` would allocate, so a denoiser
    that is equally certain of all tokens follows that diffusion path.

    Attributes:
        certainty: The measure of certainty.
        spacing: Determines the budgets.
        sharpness: Power of the certainty in the proportion, at least 0: 0 is plain diffusion, a
            large power gives all to the most certain token.
    """

    certainty: Certainty = field(default_factory=Confidence)
    spacing: Spacing = field(default_factory=Lomax)
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        check_spacing(self.spacing)
        if not 0 <= self.sharpness < torch.inf:
            raise ValueError(f"A sharpness must be at least 0 and finite, not {self.sharpness}.")

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return a pace with the steps of the spacing as budgets.

        Args:
            state: The start of the walk.
            num_steps: Number of steps, at least 1.
            generator: Not used.

        Returns:
            The pace; where the spacing ends at ∞ its last step decides all tokens.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        steps = offered(num_steps, state.is_known)
        time = torch.linspace(0, 1, num_steps + 1, dtype=real_type(state.is_known))
        budgets = self.spacing.quantile(time).diff().tolist()

        def dsnr(n: int, state: State, posterior: Posterior) -> Float[Tensor, "batch length"]:
            weights = (self.certainty(posterior) ** self.sharpness).masked_fill(state.is_known, 0)
            num_free = (~state.is_known).sum(-1, keepdim=True)
            if budgets[n] == torch.inf:
                return _to_infinity(state, torch.ones_like(state.is_known))
            total = weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
            return budgets[n] * num_free * weights / total

        return Pace(steps, dsnr)


def in_equal_shares(certainty: Certainty, choose: Choose, state: State, num_steps: int) -> Pace:
    """Return a pace that decides `L/N` tokens per step.

    Args:
        certainty: The measure of certainty.
        choose: Picks so many of the unknown tokens of each sequence, given their certainties.
        state: The start of the walk; only unknown tokens are counted and decided.
        num_steps: Steps requested, at least 1; no more are taken than there are unknown tokens.

    Returns:
        The pace, whose bound is exact: nothing is drawn to choose.

    Raises:
        ValueError: `num_steps` is below 1.
    """
    num_free = (~state.is_known).sum(-1, keepdim=True)
    steps = torch.minimum(offered(num_steps, state.is_known), num_free).clamp(min=1)

    def dsnr(n: int, state: State, posterior: Posterior) -> Float[Tensor, "batch length"]:
        unknown = ~state.is_known
        to_remain = num_free - num_free * (n + 1) // steps
        num_due = (unknown.sum(-1, keepdim=True) - to_remain).clamp(min=0)
        return _to_infinity(state, choose(certainty(posterior), unknown, num_due))

    return Pace(steps, dsnr, unmasks_by_rule=True)


def _most_certain(
    certainty: Float[Tensor, "batch length"], unknown: Bool[Tensor, "batch length"], num: Steps
) -> Bool[Tensor, "batch length"]:
    return rank_free(-certainty, unknown) < num


def _to_infinity(state: State, chosen: Tensor) -> Float[Tensor, "batch length"]:
    return torch.zeros_like(state.snr).masked_fill(chosen & ~state.is_known, torch.inf)
