"""Both endpoints of γ mixed in, which paths other than diffusion need side by side."""

from dataclasses import dataclass

import torch

from stochloc.core.numerics import draw_uniform
from stochloc.training.snr.law import Snr, SnrLaw, stratified


@dataclass(frozen=True)
class Endpoints:
    """Another distribution with a random share of the tokens moved to `γ = 0` or `γ = ∞`.

    For each sequence a share `p ~ U(0, 1)` of the tokens is moved, and of those a share
    `q ~ U(0, 1)` to ∞, the rest to 0: the states of masked and autoregressive paths.

    Attributes:
        inside: The distribution of the tokens that are not moved.
    """

    inside: SnrLaw

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return the inner distribution's γ with tokens moved; p is stratified over the batch."""
        snr = self.inside.draw(batch, length, generator)
        moved_share = stratified((batch, 1), generator)
        known_share = stratified((batch, 1), generator)
        moved = draw_uniform((batch, length), generator) < moved_share
        to_known = draw_uniform((batch, length), generator) < known_share
        endpoint = torch.zeros_like(snr).masked_fill(to_known, torch.inf)
        return torch.where(moved, endpoint, snr)
