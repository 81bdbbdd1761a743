"""Random streams by name: what a stream draws is determined by its numbers alone."""

import hashlib
from collections.abc import Iterable

import torch

from stochloc.core import Streams


def seeded_generator(device: torch.device, *seeds: int) -> torch.Generator:
    """Return a generator whose stream is determined by the given numbers alone.

    Args:
        device: Where it draws.
        seeds: Any number of integers of any size; a different integer, or one more at the end, even
            0, gives an independent stream.

    Returns:
        The generator.
    """
    # A digest of the digits distinguishes (1,) from (1, 0) and (2**32,) from (0, 1); hashes of
    # zero-padded words such as numpy's SeedSequence do not.
    digest = hashlib.sha256(",".join(map(str, map(int, seeds))).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def seeded_streams(device: torch.device, seed: int, names: Iterable[tuple[int, ...]]) -> Streams:
    """Return a stream for each of some named sequences.

    Args:
        device: Where they draw.
        seed: Seed of all streams.
        names: Tuples of integers, of any length, that identify each sequence among all with this
            seed.

    Returns:
        The streams, independent of each other where their names differ.
    """
    return Streams([seeded_generator(device, seed, *name) for name in names], device)
