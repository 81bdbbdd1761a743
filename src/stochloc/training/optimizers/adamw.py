"""AdamW: step sizes independent of the gradient's scale, and decoupled weight decay."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov and Hutter 2019).

    Attributes:
        beta1: Decay of the average gradient.
    """

    beta1: float = 0.9

    def make(
        self,
        groups: list[dict[str, Any]],
        linear: set[Tensor],
        learning_rate: float,
        beta2: float,
        is_fused: bool,
    ) -> torch.optim.Optimizer:
        """Return torch's AdamW: see `OptimizerFamily`."""
        betas = (self.beta1, beta2)
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=is_fused)

    def moments(self, shape: torch.Size, is_linear: bool) -> dict[str, torch.Size]:
        """Return the shapes of the step count and both averages."""
        return {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}
