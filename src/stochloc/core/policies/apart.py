"""Decide the most certain tokens that are far enough apart.

Tokens of one step are decided independently, and neighbours depend on each other most; the most
certain tokens, however, are often neighbours. This policy chooses, of all sets of m unknown tokens
in which any two are at least D apart, the one of greatest joint certainty

    Σ_{i in set} log certainty_i,

where D is more than half of the largest distance that any m of the unknown tokens allow: so two
neighbours are decided together only where every choice of m tokens has neighbours, and about half
of the room is left for the certainty to decide. The set is found exactly: with S(i, k) the best sum
of k tokens among those from i on,

    S(i, k) = max( S(i+1, k),  log certainty_i + S(i+D, k-1) ).

As for all policies that decide which tokens become known but not their values, the bound is valid,
and no order but a random or a fixed one is an average over orders (`core.policies.unmasking`).
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.paths.base import Steps, most, real_type
from stochloc.core.policies.base import Pace
from stochloc.core.policies.certainties import Certainty, Confidence
from stochloc.core.policies.unmasking import in_equal_shares
from stochloc.core.streams import Randomness


@dataclass(frozen=True)
class RevealApart:
    """Decide equal numbers of tokens per step, the most certain that are far enough apart.

    Attributes:
        certainty: The measure of certainty. Of equally certain sets the left one is chosen.
    """

    certainty: Certainty = field(default_factory=Confidence)

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return a pace that decides `L/N` tokens per step.

        Args:
            state: The start of the walk; only unknown tokens are counted and decided.
            num_steps: Steps requested, at least 1; no more are taken than there are unknown tokens.
            generator: Not used.

        Returns:
            The pace. A step costs no denoiser call and `O(L · L/N)` operations for a sequence.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        return in_equal_shares(self.certainty, choose_apart, state, num_steps)


def choose_apart(
    certainty: Float[Tensor, "batch length"],
    unknown: Bool[Tensor, "batch length"],
    num: Steps,
) -> Bool[Tensor, "batch length"]:
    """Return the most certain tokens that are more than half of the largest distance apart.

    Args:
        certainty: Of every token, in `[0, 1]`.
        unknown: The tokens to choose from.
        num: How many of each sequence, at most as many as there are.

    Returns:
        The chosen tokens: of all sets of that many unknown tokens with no two closer than the
        distance, the one of the largest product of certainties.
    """
    length, rows = unknown.shape[-1], torch.arange(len(unknown), device=unknown.device)
    apart = largest_distance(unknown, num) // 2 + 1
    # Zero and known must differ: a token of certainty 0 may have to be chosen.
    weight = certainty.to(real_type(unknown)).clamp(min=1e-300 if not unknown.is_mps else 1e-37)
    weight = weight.log().masked_fill(~unknown, -torch.inf)
    sums = weight.new_full((length + 1, len(rows), 1 + most(num)), -torch.inf)
    sums[..., 0] = 0
    for i in reversed(range(length)):
        beyond = sums[(i + apart[:, 0]).clamp(max=length), rows]
        sums[i] = sums[i + 1]
        taken = weight[:, i, None] + beyond[:, :-1]
        sums[i, :, 1:] = torch.maximum(sums[i, :, 1:], taken)
    chosen, left, free_from = torch.zeros_like(unknown), num[:, 0].clone(), torch.zeros_like(rows)
    for i in range(length):
        beyond = sums[(i + apart[:, 0]).clamp(max=length), rows, (left - 1).clamp(min=0)]
        taken = weight[:, i] + beyond
        take = (left > 0) & (free_from <= i) & unknown[:, i] & (taken >= sums[i, rows, left])
        chosen[:, i] = take
        left = left - take.long()
        free_from = torch.where(take, i + apart[:, 0], free_from)
    return chosen


def largest_distance(unknown: Bool[Tensor, "batch length"], num: Steps) -> Steps:
    """Return the largest D such that some `num` unknown tokens are all at least D apart.

    Args:
        unknown: The tokens to choose from.
        num: How many of each sequence, at most as many as there are.

    Returns:
        D, at least 1; the length where fewer than two are chosen.
    """
    lower, upper = torch.ones_like(num), torch.full_like(num, max(1, unknown.shape[-1]))
    while bool((lower < upper).any()):
        middle = (lower + upper + 1) // 2
        fits = _packed(unknown, middle) >= num
        lower, upper = torch.where(fits, middle, lower), torch.where(fits, upper, middle - 1)
    return lower


def _packed(unknown: Bool[Tensor, "batch length"], apart: Steps) -> Int[Tensor, "batch 1"]:
    """Most tokens with no two closer than `apart`: each as far left as it may be."""
    count, free_from = torch.zeros_like(apart[:, 0]), torch.zeros_like(apart[:, 0])
    for i in range(unknown.shape[-1]):
        take = unknown[:, i] & (free_from <= i)
        count = count + take.long()
        free_from = torch.where(take, i + apart[:, 0], free_from)
    return count[:, None]
