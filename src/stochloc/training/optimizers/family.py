"""The protocol of a kind of optimizer."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class OptimizerFamily(Protocol):
    """Creates optimizers of one kind and describes their state."""

    def make(
        self,
        groups: list[dict[str, Any]],
        linear: set[Tensor],
        learning_rate: float,
        beta2: float,
        is_fused: bool,
    ) -> torch.optim.Optimizer:
        """Return an optimizer.

        Args:
            groups: Parameters under "params", each group with its "weight_decay".
            linear: Those of them that are weights of linear layers, for kinds that treat them as
                maps.
            learning_rate: The peak; the schedule sets the rate before every update.
            beta2: Decay of squared gradients, for kinds that average them.
            is_fused: Whether one kernel may do the whole step; such a kernel unscales gradients
                itself, which is too late for clipping.

        Returns:
            The optimizer.
        """
        ...

    def moments(self, shape: torch.Size, is_linear: bool) -> dict[str, torch.Size]:
        """Return names and shapes of a parameter's optimizer state, as in a checkpoint.

        Args:
            shape: Of the parameter.
            is_linear: Whether it is the weight of a linear layer.

        Returns:
            Shapes by the names of the optimizer's state dictionary.
        """
        ...
