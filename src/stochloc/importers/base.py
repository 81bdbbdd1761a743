"""What an importer is: it reads the tensors of one public layout as a localization model.

An importer is given the names and shapes of a checkpoint's tensors before any of them is read, and
refuses a checkpoint that lacks one, has one more or has one of another shape. What it returns holds
every tensor of a `LocalizationModel`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import safe_open
from torch import Tensor

from stochloc.nn import ModelConfig
from stochloc.nn.weights import Shapes


@dataclass(frozen=True)
class Told:
    """What a user says of a checkpoint that does not say it itself.

    Attributes:
        heads: Attention heads per block; None if the checkpoint says so.
        length: Tokens per window in its training, L; None if the checkpoint says so.
    """

    heads: int | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("number of heads", self.heads), ("length", self.length)):
            if value is not None and value < 1:
                raise ValueError(f"The {name} of a checkpoint is at least 1, not {value}.")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint, read one by one, and what is written beside them.

    Attributes:
        name: What the user called it, for messages.
        path: A safetensors file with its tensors.
        shapes: Their shapes by name.
        facts: The values of the `config.json` beside it; empty if there is none.
    """

    name: str
    path: Path
    shapes: Shapes
    facts: dict[str, Any]

    def tensor(self, name: str) -> Tensor:
        """Return a tensor of the checkpoint.

        Args:
            name: One of `shapes`.

        Returns:
            Its values in float32, in memory of their own.
        """
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor(name).to(torch.float32, copy=True)

    def number(self, name: str) -> int | None:
        """Return a size from the checkpoint's `config.json`.

        Args:
            name: Its key there.

        Returns:
            The size; None if it is not given.

        Raises:
            ValueError: It is no positive whole number.
        """
        value = self.facts.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(
                f"The {name} in the config.json of {self.name} must be a positive whole number, "
                f"not {str(value)[:40]!r}."
            )
        return value


@dataclass(frozen=True, eq=False)
class Imported:
    """A checkpoint as a localization model.

    Attributes:
        config: What the model is made of.
        weights: The state dictionary of a `LocalizationModel` of that configuration.
        length: Tokens per window, L.
    """

    config: ModelConfig
    weights: dict[str, Tensor]
    length: int


@runtime_checkable
class Importer(Protocol):
    """Reads checkpoints of one layout."""

    def convert(self, checkpoint: Checkpoint, told: Told) -> Imported:
        """Return a checkpoint as a localization model.

        Args:
            checkpoint: The tensors, none of which has been read yet.
            told: What the user says of it.

        Returns:
            The model.

        Raises:
            ValueError: The checkpoint is not of this layout, or it does not say what is needed.
        """
        ...
