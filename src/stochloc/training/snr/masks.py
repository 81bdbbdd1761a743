"""The endpoints of γ alone: masked diffusion."""

from dataclasses import dataclass

import torch

from stochloc.core.numerics import draw_uniform
from stochloc.training.snr.law import Snr, stratified


@dataclass(frozen=True)
class Masks:
    """Every token at an endpoint: known with a probability `t ~ U(0, 1)` per sequence, else masked.

    The law of masked diffusion; t is stratified over the batch.
    """

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return 0 or ∞ for every token."""
        known_share = stratified((batch, 1), generator)
        known = draw_uniform((batch, length), generator) < known_share
        return torch.zeros_like(known, dtype=known_share.dtype).masked_fill(known, torch.inf)
