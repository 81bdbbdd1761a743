"""The endpoints of γ alone: masked diffusion."""

from dataclasses import dataclass

import torch

from stochloc.core.numerics import draw_uniform
from stochloc.training.snr.law import Snr, stratified


@dataclass(frozen=True)
class Masks:
    """Every token at an endpoint: known with a probability t, uniform for each sequence, else 0.

    With t from 0 to 1 the distribution of masked diffusion. Data that is always completed from much
    that is given, such as a puzzle, is learned sooner from such states. t is stratified over the
    batch.

    Attributes:
        least: The smallest t, in `[0, 1)`.
        most: The largest t, in `(least, 1]`.
    """

    least: float = 0.0
    most: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.least < self.most <= 1:
            raise ValueError(
                "The shares of known tokens must lie in [0, 1] and the least below the most, not "
                f"be {self.least} and {self.most}."
            )

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return 0 or ∞ for every token."""
        known_share = self.least + (self.most - self.least) * stratified((batch, 1), generator)
        known = draw_uniform((batch, length), generator) < known_share
        return torch.zeros_like(known, dtype=known_share.dtype).masked_fill(known, torch.inf)
