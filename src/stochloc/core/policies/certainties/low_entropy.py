"""Certainty as the inverse of the effective number of values."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.denoisers.posterior import Posterior


@dataclass(frozen=True)
class LowEntropy:
    """The inverse of the effective number of values, `exp(-entropy)`."""

    def __call__(self, posterior: Posterior) -> Float[Tensor, "batch length"]:
        """Return `exp(-H(Q))`."""
        return torch.exp(-posterior.entropy)
