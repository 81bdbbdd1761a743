"""Unmasking in groups that are spread over the text: the order of equal rank for few steps.

Tokens of one step are decided independently, so a step loses the dependence among its tokens, and
neighbours depend on each other most. `N` groups of equal size cannot be further apart than this:
count the free tokens from left to right, r = 0, 1, ..., and let token r belong to the class

    c(r) = (r + o) mod N,        o drawn uniformly from 0, ..., N - 1 for every sequence.

Tokens of a class are N apart. Of any N + 1 tokens in a row two must share a group, so no division
into N groups has a larger smallest distance; and the classes are equal within one token. Since o
is uniform, every token is equally likely to be in each class: no place is favoured.

The classes are decided in the order in which the bit-reversed fractions 0, 1/2, 1/4, 3/4, 1/8, ...
(van der Corput) first meet the N equal intervals of [0, 1): what is known is spread as well, at
every step. Where N is a power of two this is the bit-reversed order of the places r + o itself.
Counting free tokens only spreads the blanks of an infilling over the blanks.

With N = L every token is a class of its own: the walk is exact for the true posterior, as every
order is. Dilated unmasking (2506.19037) and the Halton order of masked image models are relatives.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.numerics import draw_uniform
from stochloc.core.paths.base import (
    Free,
    Grid,
    Path,
    Point,
    Steps,
    reveal_in_turns,
    turns_taken,
)
from stochloc.core.streams import Randomness


@dataclass(frozen=True)
class Spread(Path):
    """Tokens go from 0 to ∞ in N groups, each spread evenly over the text.

    A walk of N steps decides tokens N apart at once; the line integral decides one at a time, in
    the order of N = L. Both are averages over the random offset of the order.
    """

    @property
    def snr_end(self) -> float:
        """All tokens end known."""
        return math.inf

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return a grid that reveals the N classes in turn; the offset is drawn per sequence."""
        steps = turns_taken(num_steps, free)
        return reveal_in_turns(draw_turns(steps, free, generator), steps, free)

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return a prefix of the order of N = L known; the next token jumps at the rate L."""
        num_free = free.sum(-1, keepdim=True)
        turns = draw_turns(num_free.clamp(min=1), free, generator)
        num_known = (time[:, None] * num_free).long()
        zero = torch.zeros(free.shape, dtype=time.dtype, device=free.device)
        snr = zero.masked_fill(free & (turns < num_known), torch.inf)
        return Point(snr, zero, (free & (turns == num_known)) * num_free.to(zero))


def draw_turns(groups: Steps, free: Free, generator: Randomness) -> Int[Tensor, "batch length"]:
    """Return the turn of every free token: the number of its group in the order of decisions.

    Args:
        groups: Number of groups N of every sequence, at least 1.
        free: Which tokens are counted and grouped.
        generator: Source of the offset of every sequence.

    Returns:
        Turns in `[0, N)`; those of tokens that are not free have no meaning. Groups are equal
        within one token, free tokens of a group are N free tokens apart, and every turn is equally
        likely for every token.
    """
    offset = (draw_uniform((len(free), 1), generator).to(free.device) * groups).long()
    # In float32 `u · N` may round up to N.
    classes = (free.long().cumsum(-1) - 1 + torch.minimum(offset, groups - 1)) % groups
    turns = torch.zeros_like(classes)
    for number in groups.unique().tolist():
        rows = (groups == number)[:, 0]
        turns[rows] = turns_of_classes(number).to(free.device)[classes[rows]]
    return turns


def turns_of_classes(groups: int) -> Int[Tensor, " groups"]:
    """Return when each of N classes has its turn.

    Args:
        groups: N, at least 1.

    Returns:
        A permutation of 0, ..., N - 1: at every turn those that have had theirs are spread over
        the circle of classes. For a power of two, the reversal of bits.
    """
    bits = (groups - 1).bit_length()
    counts = torch.arange(2**bits)
    fractions = torch.zeros_like(counts)
    for bit in range(bits):
        fractions = 2 * fractions + (counts >> bit) % 2
    order = list(dict.fromkeys((fractions * groups // 2**bits).tolist()))
    return torch.tensor(order).argsort()
