"""Random streams by name: what a stream draws follows from its numbers, and from them alone."""

from collections.abc import Iterable

import numpy as np
import torch

from stochloc.core import Streams


def seeded_generator(device: torch.device, *seeds: int) -> torch.Generator:
    """Return a generator whose stream is determined by the numbers given, and by them alone.

    Args:
        device: Where it draws.
        seeds: Any non-negative numbers; another one anywhere gives an independent stream.

    Returns:
        The generator.
    """
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def seeded_streams(device: torch.device, seed: int, names: Iterable[tuple[int, ...]]) -> Streams:
    """Return a stream for each of some sequences that have names.

    Args:
        device: Where they draw.
        seed: Seed of them all, at least 0.
        names: Numbers, at least 0, that tell each sequence from all others of the seed.

    Returns:
        The streams, independent of each other where their names differ.
    """
    return Streams([seeded_generator(device, seed, *name) for name in names], device)
