"""The two sides of every token at SNRs that have nothing to do with each other."""

from dataclasses import dataclass

import torch

from stochloc.training.snr.law import Sides, SnrLaw


@dataclass(frozen=True)
class IndependentSides:
    """Two draws of another distribution, one for each side.

    Attributes:
        inside: The distribution of each side.
    """

    inside: SnrLaw

    def draw_sides(self, batch: int, length: int, generator: torch.Generator) -> Sides:
        """Return γ for both sides, drawn one after the other."""
        left = self.inside.draw(batch, length, generator)
        return Sides(left, self.inside.draw(batch, length, generator))
