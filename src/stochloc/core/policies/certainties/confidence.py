"""Certainty as the probability of the most likely value."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from stochloc.core.denoisers.posterior import Posterior


@dataclass(frozen=True)
class Confidence:
    """The probability of the most likely value."""

    def __call__(self, posterior: Posterior) -> Float[Tensor, "batch length"]:
        """Return `max_v Q(v|z)`."""
        return posterior.confidence
