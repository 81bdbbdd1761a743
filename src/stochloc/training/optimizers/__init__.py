"""The kinds of optimizers, one file each; one joins by a line in `OPTIMIZERS`."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from stochloc.training.optimizers.adamw import AdamW
from stochloc.training.optimizers.family import OptimizerFamily
from stochloc.training.optimizers.muon import Muon
from stochloc.training.recipes import TrainingConfig

OPTIMIZERS: dict[str, OptimizerFamily] = {
    "adamw": AdamW(),
    "muon": Muon(),
}


def optimizer_family(config: TrainingConfig) -> OptimizerFamily:
    """Return the kind of optimizer that a configuration names.

    Args:
        config: The configuration.

    Returns:
        The kind.

    Raises:
        ValueError: There is none with that name.
    """
    if config.optimizer not in OPTIMIZERS:
        raise ValueError(
            f"There is no optimizer {config.optimizer[:40]!r}; the optimizers are "
            f"{', '.join(OPTIMIZERS)}."
        )
    return OPTIMIZERS[config.optimizer]


def make_optimizer(
    model: nn.Module,
    config: TrainingConfig,
    undecayed: Iterable[nn.Parameter] = (),
    is_fused: bool = True,
) -> torch.optim.Optimizer:
    """Return the optimizer of the parameters of a module that are not frozen.

    Vectors and scalars are not decayed.

    Args:
        model: The module to train.
        config: Names the kind, the weight decay and the decay of the moments.
        undecayed: Matrices without weight decay.
        is_fused: Whether one kernel may do the whole step; see `OptimizerFamily.make`.

    Returns:
        The optimizer.

    Raises:
        ValueError: There is no such kind.
    """
    kept = {id(p) for p in undecayed}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim >= 2 and id(p) not in kept]
    others = [p for p in trained if p.ndim < 2 or id(p) in kept]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    family = optimizer_family(config)
    linear = _linear_weights(model) & set(matrices)
    return family.make(groups, linear, config.learning_rate, config.beta2, is_fused)


def moments(model: nn.Module, config: TrainingConfig) -> dict[str, dict[str, torch.Size]]:
    """Return names and shapes of the optimizer state of the parameters that are not frozen.

    Args:
        model: The module to train, as it is before any strategy wraps it.
        config: Names the kind.

    Returns:
        Shapes by the names of the parameters and of the optimizer's state dictionary.

    Raises:
        ValueError: There is no such kind.
    """
    family, linear = optimizer_family(config), _linear_weights(model)
    return {
        name: family.moments(own.shape, own in linear)
        for name, own in model.named_parameters()
        if own.requires_grad
    }


def _linear_weights(model: nn.Module) -> set[Tensor]:
    return {part.weight for part in model.modules() if isinstance(part, nn.Linear)}


__all__ = [
    "OPTIMIZERS",
    "AdamW",
    "Muon",
    "OptimizerFamily",
    "make_optimizer",
    "moments",
    "optimizer_family",
]
