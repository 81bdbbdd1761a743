"""A policy of one's own: decide two tokens a step, the most certain one and the least certain one.

    python examples/own_policy.py

A policy looks at the posterior and says how much SNR each token receives. This one is no good idea,
and its bound says so: with the exact denoiser the bound of a policy that decides one token a step
is the true cost, while two decided at once are taken for independent.
"""

import math
from dataclasses import dataclass

import torch

from stochloc.core import (
    Ancestral,
    Confidence,
    ExactDenoiser,
    Pace,
    Policy,
    Posterior,
    Reveal,
    SimplexCodebook,
    State,
    bound,
)
from stochloc.core.paths.orders import rank_free
from stochloc.core.streams import Randomness
from stochloc.data import Cyclic


@dataclass(frozen=True)
class BothExtremes(Policy):
    """Decides the most and the least certain of the unknown tokens."""

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return the rule; it takes half as many steps as there are tokens."""
        steps = torch.full((len(state.known), 1), -(-state.known.shape[1] // 2))
        return Pace(steps, self._allocate)

    def _allocate(self, n: int, state: State, posterior: Posterior) -> torch.Tensor:
        free = ~state.is_known
        ranks = rank_free(Confidence()(posterior), free)
        extreme = free & ((ranks == 0) | (ranks == free.sum(-1, keepdim=True) - 1))
        return torch.where(extreme, math.inf, 0.0)


def main() -> None:
    """Print its cost on the cyclic sequences, and that of the most certain token first."""
    sequences, log_prob = Cyclic(5).enumerate(5)
    denoiser = ExactDenoiser(SimplexCodebook(5), sequences, log_prob)
    for policy in (Reveal(Confidence()), BothExtremes()):
        generator = torch.Generator().manual_seed(0)
        cost = bound(denoiser, sequences, policy, Ancestral(), 5, generator)
        print(f"{type(policy).__name__}: {cost.mean:.3f} nats, truth {math.log(5):.3f}")


if __name__ == "__main__":
    main()
