"""Which tensors a checkpoint holds, known from the recipe before any is allocated."""

from pathlib import Path

import torch

from stochloc.nn import LocalizationModel
from stochloc.nn.frozen import freeze
from stochloc.nn.unfilled import unfilled
from stochloc.training.checkpoint import Checkpoint
from stochloc.training.optimizers import moments
from stochloc.training.recipes import Recipe


def check_same_model(checkpoint: Checkpoint, recipe: Recipe, folder: Path) -> None:
    """Refuse a checkpoint whose tensors are not those of a recipe, before any is made.

    Args:
        checkpoint: As read from the folder.
        recipe: What is to be trained.
        folder: The run's folder, for the message.

    Raises:
        ValueError: Names or shapes differ.
    """
    found = {name: t.shape for name, t in checkpoint.tensors.items()}
    if recipe.model.depth > len(found) or found != _shapes(recipe):
        raise ValueError(f"The checkpoint in {folder} is of another model or version.")


def _shapes(recipe: Recipe) -> dict[str, torch.Size]:
    """Names and shapes of what `save` writes, known to every process without gathering."""
    with unfilled():
        model = LocalizationModel(recipe.model)
    freeze(model, recipe.freeze)
    shapes = {
        f"{part}.{name}": tensor.shape
        for part in ("model", "average")
        for name, tensor in model.state_dict().items()
    }
    for name, own in moments(model, recipe.training).items():
        shapes |= {f"optimizer.{name}.{moment}": shape for moment, shape in own.items()}
    return shapes
