"""A run that begins with given weights, as if training had just reached them.

The folder gets the model to use and a checkpoint of step 0: weights, their average, and moments of
an optimizer that has done nothing, which are zeros. `train --resume` continues it like any other.
"""

from pathlib import Path

import torch
from torch import Tensor

from stochloc.nn import LocalizationModel
from stochloc.nn.frozen import freeze
from stochloc.training.checkpoint import Checkpoint, flatten
from stochloc.training.export import export
from stochloc.training.optimizers import moments
from stochloc.training.recipes import Recipe


def write_beginning(recipe: Recipe, model: LocalizationModel, folder: Path) -> None:
    """Write the model and the checkpoint of a run that has done no update.

    Args:
        recipe: How training would go on; of the model's configuration.
        model: The weights, in float32 on the CPU; the recipe's frozen parts become frozen.
        folder: The run's folder, which exists.
    """
    freeze(model, recipe.freeze)
    zeros: dict[str, dict[str, Tensor]] = {
        name: {moment: torch.zeros(size) for moment, size in own.items()}
        for name, own in moments(model, recipe.training).items()
    }
    state = model.state_dict()
    parts = {"model": state, "average": state, "optimizer": flatten(zeros)}
    Checkpoint(0, recipe.to_dict(), flatten(parts)).write(folder)
    export(recipe, state, folder)
