"""Two distributions of γ side by side in a batch."""

from dataclasses import dataclass

import torch

from stochloc.training.snr.law import Snr, SnrLaw, stratified


@dataclass(frozen=True)
class Mixture:
    """Each sequence follows one of two distributions.

    Attributes:
        first: One distribution.
        second: The other distribution.
        share: Expected share of the sequences that follow `second`, in `[0, 1]`.
    """

    first: SnrLaw
    second: SnrLaw
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"The share of a mixture must lie in [0, 1], not {self.share}.")

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return a batch in which as near as possible to `share` of the rows are `second`'s."""
        second = stratified((batch, 1), generator) < self.share
        return torch.where(
            second,
            self.second.draw(batch, length, generator),
            self.first.draw(batch, length, generator),
        )
