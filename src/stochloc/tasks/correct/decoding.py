"""Ways to decode the original of a corrupted text, given its soft mask.

*One pass* calls the denoiser once and takes the most probable token wherever its probability
exceeds a threshold, else the token that was read: the threshold keeps clean text clean. The *full
walk* starts from the same state and decides step by step with the same threshold, each token given
those before; so of two gaps that may both hold the lost letter of `leter`, one gets it. A last call
reverts every change whose probability, given everything that was kept, is below the threshold.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import (
    Ancestral,
    Denoiser,
    Masked,
    Posterior,
    Randomness,
    State,
    Tempered,
    localize,
)
from stochloc.tasks.correct.reading import Decision, Reading
from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.walks import Walk
from stochloc.training.seeds import seeded_streams

SUREST_FIRST = Walk(Masked(), Ancestral(), 32, policy=PolicyChoice("threshold:0.9"))


def choose(posterior: Posterior, read: Int[Tensor, "batch length"], threshold: float) -> Decision:
    """Return the most probable tokens where they exceed the threshold, else what was read.

    Args:
        posterior: The denoiser's posterior.
        read: What was read.
        threshold: The probability that a change must exceed.

    Returns:
        The decision, with the denoiser calls of the posterior.
    """
    tokens = torch.where(posterior.confidence > threshold, posterior.mode, read)
    return Decision.in_place(tokens, posterior.log_prob(tokens).exp(), posterior.calls)


@dataclass(frozen=True)
class OnePass:
    """Correct in a single denoiser call.

    Attributes:
        threshold: A change is made if its probability exceeds this, in `[0, 1]`.
    """

    threshold: float

    @property
    def keeps_places(self) -> bool:
        """Every token stays at its place."""
        return True

    def decide(self, denoiser: Denoiser, reading: Reading) -> Decision:
        """Return the most probable tokens where they exceed the threshold, else what was read.

        Args:
            denoiser: Called once.
            reading: What was read, and its soft mask.

        Returns:
            The decision; with the exact denoiser its probabilities are exact.
        """
        return choose(denoiser(reading.state), reading.tokens, self.threshold)


@dataclass(frozen=True)
class FullWalk:
    """Correct by a walk, and check its changes with a last call.

    Attributes:
        threshold: A change is made if its probability exceeds this, in `[0, 1]`.
        walk: How to walk; the steps themselves are `Thresholded`. By default each step decides all
            tokens of at least 90 % confidence, and at least one.
        seed: Seed of the noise of finite steps.
    """

    threshold: float
    walk: Walk = SUREST_FIRST
    seed: int = 0

    @property
    def keeps_places(self) -> bool:
        """Every token stays at its place."""
        return True

    def decide(self, denoiser: Denoiser, reading: Reading) -> Decision:
        """Return the result of a walk, without the changes that the last call does not confirm.

        Args:
            denoiser: Called once for every step, and once more.
            reading: What was read, and its soft mask.

        Returns:
            The decision; each probability is that of the token given all that was kept.

        Raises:
            ValueError: A setting of the walk is out of range.
        """
        state, read = reading.state, reading.tokens
        # All sequences have equal random streams: a correction does not depend on its batch.
        streams = seeded_streams(state.z.device, self.seed, [()] * len(read))
        policy, walker = self.walk.apply(Tempered(denoiser, self.walk.temperature))
        transition, end, calls = Thresholded(read, self.threshold), state, 0
        for step in localize(walker, state, policy, transition, self.walk.num_steps, streams):
            end, calls = step.state, calls + step.denoiser_calls
        kept = end.known == read
        posterior = denoiser(state.reveal(read, kept))
        probs = posterior.log_prob(end.known).exp()
        tokens = torch.where(probs > self.threshold, end.known, read)
        tokens = torch.where(kept, read, tokens)
        return Decision.in_place(tokens, probs, calls + posterior.calls)


@dataclass(frozen=True)
class Thresholded:
    """Ancestral finite steps; decisions keep the token read unless the mode exceeds a threshold.

    Attributes:
        read: What was read.
        threshold: The probability above which the mode is chosen.
    """

    read: Int[Tensor, "batch length"]
    threshold: float

    def step(
        self,
        state: State,
        posterior: Posterior,
        dsnr: Float[Tensor, "batch length"],
        generator: Randomness,
    ) -> State:
        """Draw finite steps as `Ancestral` does; decide where `dγ = ∞`. No denoiser call."""
        deciding = dsnr.isinf() & ~state.is_known
        moved = Ancestral().step(state, posterior, dsnr.masked_fill(deciding, 0.0), generator)
        return moved.reveal(choose(posterior, self.read, self.threshold).tokens, deciding)

    def cost(
        self,
        before: State,
        after: State,
        posterior: Posterior,
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length"]:
        """Return `Ancestral`'s cost, and 0 or ∞ for decisions, which are not drawn."""
        moving = Ancestral().cost(before, after, posterior, tokens)
        agrees = tokens == choose(posterior, self.read, self.threshold).tokens
        decided = after.is_known & ~before.is_known
        return torch.where(decided, torch.where(agrees, 0.0, torch.inf), moving)
