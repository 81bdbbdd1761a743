"""What a distribution of signal-to-noise ratios is, and the stratified uniforms they all draw."""

from typing import NamedTuple, Protocol, runtime_checkable

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


class Sides(NamedTuple):
    """γ of every token as those to its right see it, and as those to its left do.

    Attributes:
        left: In `[0, ∞]`, dimensionless.
        right: The same; None where both sides see the same noisy codes.
        alone: Weight, at least 0, with which all tokens of a sequence are asked for once more,
            given what is left of them and nothing on the right; those of both sides weigh 1.
            None where no sequence is.
    """

    left: Snr
    right: Snr | None
    alone: Float[Tensor, " batch"] | None = None


@runtime_checkable
class SidedSnrLaw(Protocol):
    """A distribution that shows each token to its two sides at SNRs of their own."""

    def draw_sides(self, batch: int, length: int, generator: torch.Generator) -> Sides:
        """Return γ of every token for both sides."""
        ...


def draw_sides(
    law: SnrLaw | SidedSnrLaw, batch: int, length: int, generator: torch.Generator
) -> Sides:
    """Return γ of every token for both sides, under a distribution of either kind.

    Args:
        law: The distribution.
        batch: Number of sequences.
        length: Tokens of each.
        generator: Source of randomness.

    Returns:
        Both sides, the same for a distribution without sides.
    """
    if isinstance(law, SidedSnrLaw):
        return law.draw_sides(batch, length, generator)
    return Sides(law.draw(batch, length, generator), None)


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
