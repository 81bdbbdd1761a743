"""Training batches of sequences of similar length, in which every token has the same weight.

A batch of sequences drawn at random would be padded to the longest of them. So a *pool* of many
batches is drawn and sorted by length, and cut into slices that fill a batch each, padding included.
One slice is drawn with a probability in proportion to its tokens of text. The loss is a mean over
the tokens of the slice, so a token of the pool counts

    P(slice) / tokens(slice) = 1 / tokens(pool)

in expectation, whatever the slices are: the gradient is that of the mean over the pool, and long
sequences count for as much as their tokens. The pool is drawn anew for every update, so a batch
follows from its generator alone.
"""

import math

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from stochloc.data.sequences import Sequences

# Batches in a pool: more are padded less, and take longer to sort.
POOL_BATCHES = 16


def draw_batch(
    sequences: Sequences, most_places: int, generator: torch.Generator
) -> Int64[Tensor, "rows length"]:
    """Return a batch of sequences of similar length.

    Args:
        sequences: what to draw from, with replacement; at least one.
        most_places: the places of the batch at most, those of boundaries and labels and those
            without a token included; at least the longest sequence with its boundaries and label.
        generator: the source of randomness.

    Returns:
        Rows as `Sequences.rows` gives them, on the CPU.
    """
    given = sequences.num_given
    mean = sequences.mean_length + given
    num = math.ceil(POOL_BATCHES * most_places / mean)
    pool = torch.randint(len(sequences), (num,), generator=generator, device=generator.device)
    chosen = pool.cpu().numpy()
    lengths = sequences.lengths[chosen]
    order = np.argsort(-lengths, kind="stable")
    chosen, lengths = chosen[order], lengths[order]
    begins = slice_begins(lengths + given, most_places)
    tokens = torch.from_numpy(np.add.reduceat(lengths, begins)).double()
    drawn = int(torch.multinomial(tokens.to(generator.device), 1, generator=generator))
    end = begins[drawn + 1] if drawn + 1 < len(begins) else len(chosen)
    return sequences.rows(chosen[begins[drawn] : end])


def slice_begins(sizes: Int64[np.ndarray, " sequences"], most_places: int) -> list[int]:
    """Return where slices of sorted sequences begin.

    Args:
        sizes: tokens of each, those that are not text included; descending.
        most_places: the places of a slice at most, padded to its first and longest sequence.

    Returns:
        The first sequence of every slice, which all but the last are as full as they can be.
    """
    begins, begin = [], 0
    while begin < len(sizes):
        begins.append(begin)
        begin += max(1, most_places // int(sizes[begin]))
    return begins
