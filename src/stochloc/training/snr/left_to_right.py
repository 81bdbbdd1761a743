"""A share of sequences shown as to a left-to-right model: the left known, the right unknown."""

from dataclasses import dataclass

import torch

from stochloc.training.snr.law import Sides, SnrLaw, stratified


@dataclass(frozen=True)
class LeftToRight:
    """Another distribution, with a share of the sequences known on the left, unknown on the right.

    Attributes:
        inside: The distribution of the other sequences, whose two sides see the same codes.
        share: Share of the sequences that are read from left to right, in `[0, 1]`.
        mirrored_share: Share of those read from right to left; both add up to at most 1.
    """

    inside: SnrLaw
    share: float = 0.25
    mirrored_share: float = 0.0

    def __post_init__(self) -> None:
        if not (self.share >= 0 and self.mirrored_share >= 0):
            raise ValueError("The shares of sequences read in one direction must be at least 0.")
        if not self.share + self.mirrored_share <= 1:
            raise ValueError("The shares of sequences read in one direction add up to more than 1.")

    def draw_sides(self, batch: int, length: int, generator: torch.Generator) -> Sides:
        """Return γ for both sides; the direction of a sequence is stratified over the batch."""
        left = self.inside.draw(batch, length, generator)
        u = stratified((batch, 1), generator)
        forwards = u < self.share
        backwards = ~forwards & (u < self.share + self.mirrored_share)
        right = left.masked_fill(forwards, 0.0).masked_fill(backwards, torch.inf)
        return Sides(left.masked_fill(forwards, torch.inf).masked_fill(backwards, 0.0), right)
