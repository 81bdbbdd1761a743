"""Log-normal SNRs: one for a sentence, as in the paper (B.1, C.2), or one for every token."""

import math
from dataclasses import dataclass

import torch

from stochloc.training.snr.law import Snr, stratified


@dataclass(frozen=True)
class SentenceLogNormal:
    """One log-normal γ for all tokens of a sequence: the paper's distribution.

    Attributes:
        mean: Mean of `ln γ`; the paper's authors use 1.4.
        sigma: Standard deviation of `ln γ`; the paper's authors use 0.55.
    """

    mean: float = 1.4
    sigma: float = 0.55

    def __post_init__(self) -> None:
        _check_sigma(self.sigma)

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return one γ per sequence, at stratified quantiles over the batch."""
        normal = torch.special.ndtri(stratified((batch, 1), generator))
        return torch.exp(self.mean + self.sigma * normal).expand(batch, length)


@dataclass(frozen=True)
class TokenLogNormal:
    """An independent log-normal γ for every token.

    Attributes:
        mean: Mean of `ln γ`. Clearer neighbours teach a young network sooner what context is: a
            median of 5 is ahead of 3, and 3 of 2, after some hundred updates.
        sigma: Standard deviation of `ln γ`.
    """

    mean: float = math.log(5.0)
    sigma: float = 1.2

    def __post_init__(self) -> None:
        _check_sigma(self.sigma)

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return independent-looking γ, at stratified quantiles over all tokens of the batch."""
        normal = torch.special.ndtri(stratified((batch, length), generator))
        return torch.exp(self.mean + self.sigma * normal)


def _check_sigma(sigma: float) -> None:
    if not sigma > 0:
        raise ValueError(f"The spread of ln γ must be positive, not {sigma}.")
