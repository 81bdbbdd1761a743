"""What does a sampler of N steps cost, where the true cost is known?

    python examples/exact_world.py

Five sequences, the rotations of 01234, are equally probable, so each costs log 5. Their posterior
can be enumerated: it stands in the place of a trained network. Bounds of the masked path reach the
true cost as soon as there is a step for every token; those of the diffusion path approach it.
"""

import math

import torch

from stochloc.core import (
    Ancestral,
    Diffusion,
    Estimate,
    ExactDenoiser,
    Follow,
    Masked,
    SimplexCodebook,
    bound,
)
from stochloc.data import Cyclic

SIZE, COPIES = 5, 100


def costs() -> dict[tuple[str, int], Estimate]:
    """Return the bound of each path for several numbers of steps, nats per sequence."""
    generator = torch.Generator().manual_seed(0)
    sequences, log_prob = Cyclic(SIZE).enumerate(SIZE)
    denoiser = ExactDenoiser(SimplexCodebook(SIZE), sequences, log_prob)
    texts = sequences.repeat(COPIES, 1)
    return {
        (name, steps): bound(denoiser, texts, Follow(path), Ancestral(), steps, generator)
        for name, path in (("masked", Masked()), ("diffusion", Diffusion()))
        for steps in (2, 5, 20, 80)
    }


def main() -> None:
    """Print them beside the truth."""
    print(f"true cost: log {SIZE} = {math.log(SIZE):.3f} nats")
    for (name, steps), cost in costs().items():
        print(f"{name:9} {steps:3} steps: {cost.mean:.3f} ± {cost.stderr:.3f}")


if __name__ == "__main__":
    main()
