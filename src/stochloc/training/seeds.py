"""Random streams by name: what a stream draws follows from its numbers, and from them alone."""

import hashlib
from collections.abc import Iterable

import torch

from stochloc.core import Streams


def seeded_generator(device: torch.device, *seeds: int) -> torch.Generator:
    """Return a generator whose stream is determined by the numbers given, and by them alone.

    Args:
        device: Where it draws.
        seeds: Whole numbers of any size, as many as there are; another one anywhere, or one more
            at the end, be it 0, gives an independent stream.

    Returns:
        The generator.
    """
    # A digest of the digits tells (1,) from (1, 0) and (2**32,) from (0, 1), which hashes of
    # zero-padded words such as numpy's SeedSequence do not.
    digest = hashlib.sha256(",".join(map(str, map(int, seeds))).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def seeded_streams(device: torch.device, seed: int, names: Iterable[tuple[int, ...]]) -> Streams:
    """Return a stream for each of some sequences that have names.

    Args:
        device: Where they draw.
        seed: Seed of them all.
        names: Whole numbers, of any length, that tell each sequence from all others of the seed.

    Returns:
        The streams, independent of each other where their names differ.
    """
    return Streams([seeded_generator(device, seed, *name) for name in names], device)
