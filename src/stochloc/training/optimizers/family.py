"""What a kind of optimizer is."""

from typing import Any, Protocol, runtime_checkable

import torch


@runtime_checkable
class OptimizerFamily(Protocol):
    """Makes optimizers of one kind and says what they remember of a parameter."""

    def make(
        self, groups: list[dict[str, Any]], learning_rate: float, beta2: float, is_fused: bool
    ) -> torch.optim.Optimizer:
        """Return an optimizer.

        Args:
            groups: Parameters under "params", each group with its "weight_decay".
            learning_rate: The peak; the schedule sets it anew before every update.
            beta2: Decay of squared gradients, for kinds that average them.
            is_fused: Whether one kernel may do all of a step; such a kernel wants to undo the scale
                of gradients itself, too late to clip them before.

        Returns:
            The optimizer.
        """
        ...

    def moments(self, shape: torch.Size) -> dict[str, torch.Size]:
        """Return names and shapes of what is remembered of a parameter, as a checkpoint holds it.

        Args:
            shape: Of the parameter.

        Returns:
            Shapes by the names of the optimizer's state dictionary.
        """
        ...
