"""The model to use in a run's folder: `config.json` and `model.safetensors`."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from stochloc.training.checkpoint import replacing
from stochloc.training.recipes import Recipe


def export(recipe: Recipe, averaged: dict[str, Any], folder: Path) -> None:
    """Write the model to use: `config.json` and `model.safetensors`, each replaced atomically.

    Args:
        recipe: Gives the model's configuration.
        averaged: The state dictionary of the averaged weights, on the CPU.
        folder: The run's folder.
    """
    for name, content in _exported(recipe, averaged).items():
        with replacing(folder / name) as path:
            path.write_bytes(content)


def export_once(recipe: Recipe, averaged: dict[str, Any], folder: Path) -> None:
    """Write the model to use where it is not there: files keep their times if nothing is new.

    Args:
        recipe: Gives the model's configuration.
        averaged: The state dictionary of the averaged weights, on the CPU.
        folder: The run's folder.
    """
    for name, content in _exported(recipe, averaged).items():
        if not ((folder / name).is_file() and (folder / name).read_bytes() == content):
            with replacing(folder / name) as path:
                path.write_bytes(content)


def _exported(recipe: Recipe, averaged: dict[str, Any]) -> dict[str, bytes]:
    tensors = {name: tensor.contiguous() for name, tensor in averaged.items()}
    return {
        "config.json": json.dumps(recipe.to_dict()["model"], indent=2).encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
    }
