"""A share of sequences shown as to a left-to-right model: the left known, the right unknown.

A left-to-right likelihood asks the network about nothing but known tokens on the left, which are
rare at drawn γ. Sequences with a known left and a noisy right show it these as well, and they still
train what it makes of both sides.

What the network makes of a known left serves twice: joined to the noisy right, and to a right of
which nothing is known, which is the same for all sequences. The second question costs the join of
both sides alone, so all sequences with a known left can teach a left-to-right model as well.
"""

import math
from dataclasses import dataclass

import torch

from stochloc.training.snr.law import Sides, SnrLaw, stratified


@dataclass(frozen=True)
class LeftToRight:
    """Another distribution, with a share of the sequences known on the left, unknown on the right.

    Attributes:
        inside: The distribution of the other sequences, whose two sides see the same codes.
        share: Share of the sequences that are read from left to right, in `[0, 1]`.
        mirrored_share: Share of those read from right to left.
        known_share: Share of those with a known left, and a right of the other distribution; all
            three add up to at most 1.
        alone_weight: Weight of the same tokens given their known left alone, at least 0; given both
            sides they weigh 1.
    """

    inside: SnrLaw
    share: float = 0.25
    mirrored_share: float = 0.0
    known_share: float = 0.0
    alone_weight: float = 0.0

    def __post_init__(self) -> None:
        shares = self.share, self.mirrored_share, self.known_share
        if not all(share >= 0 for share in shares):
            raise ValueError("The shares of sequences that know one side must be at least 0.")
        if not sum(shares) <= 1:
            raise ValueError("The shares of sequences that know one side add up to more than 1.")
        if not 0 <= self.alone_weight < math.inf:
            raise ValueError(
                f"What is asked given one side alone needs a weight of at least 0, not "
                f"{self.alone_weight}."
            )

    def draw_sides(self, batch: int, length: int, generator: torch.Generator) -> Sides:
        """Return γ for both sides; the direction of a sequence is stratified over the batch."""
        inside = self.inside.draw(batch, length, generator)
        u = stratified((batch, 1), generator)
        forwards = u < self.share
        backwards = ~forwards & (u < self.share + self.mirrored_share)
        is_known = u >= 1 - self.known_share
        is_left_known = forwards | is_known
        left = inside.masked_fill(is_left_known, torch.inf).masked_fill(backwards, 0.0)
        right = inside.masked_fill(forwards, 0.0).masked_fill(backwards, torch.inf)
        if not self.known_share * self.alone_weight:
            return Sides(left, right)
        return Sides(left, right, is_known[:, 0].float() * self.alone_weight)
