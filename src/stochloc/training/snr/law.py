"""What a distribution of signal-to-noise ratios is, and the stratified uniforms they all draw."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.numerics import draw_uniform

Snr = Float[Tensor, "batch length"]


@runtime_checkable
class SnrLaw(Protocol):
    """A distribution of the SNRs of a batch of sequences."""

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return γ of every token, in `[0, ∞]`."""
        ...


def stratified(shape: tuple[int, int], generator: torch.Generator) -> Snr:
    """Return uniforms in `(0, 1)`, one in each of as many equal strata as there are, shuffled.

    Args:
        shape: Rows and columns.
        generator: Source of the order and of the places within the strata.

    Returns:
        The uniforms, at least 1e-12 away from 0 and 1.
    """
    count = shape[0] * shape[1]
    order = torch.randperm(count, generator=generator, device=generator.device)
    u = (order + draw_uniform((count,), generator)) / count
    return u.clamp(1e-12, 1 - 1e-12).view(shape)
