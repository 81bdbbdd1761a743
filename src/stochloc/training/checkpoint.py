"""The state of a training run on disk: one safetensors file, replaced atomically, never a pickle.

The file holds the weights, their average and the optimiser's moments under flat names, and the step
and what is being trained as text in its header. It is written under another name, flushed and then
renamed, so a run that is killed at any moment leaves either the previous checkpoint or the new one,
never a partial one. Random numbers need no state: every step seeds its own generators from the seed
and the step.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stochloc.nn.declared import check_types

FILE_NAME = "checkpoint.safetensors"
BEST = "best"


@dataclass(frozen=True)
class Best:
    """The best averaged weights of a run: their step and their held-out bound.

    Attributes:
        step: Number of updates they had.
        valid_bits_per_token: Their bound.
    """

    step: int
    valid_bits_per_token: float

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class Progress:
    """The progress of a run, as stored in its checkpoint's header.

    Attributes:
        step: Number of updates done.
        best: Its best averaged weights; None if there are none or none were stored.
    """

    step: int
    best: Best | None

    @classmethod
    def read(cls, folder: Path) -> "Progress | None":
        """Return the progress of a run, without reading its tensors.

        Args:
            folder: The run's folder.

        Returns:
            The progress; None if there is no checkpoint, or none that can be read.
        """
        try:
            with safe_open(folder / FILE_NAME, framework="pt") as file:
                header = file.metadata()
            own = Checkpoint(int(header["step"]), json.loads(header["recipe"]), {})
            return cls(own.step, own.best)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError):
            return None


@dataclass(frozen=True)
class Checkpoint:
    """A run at one moment.

    Attributes:
        step: Number of updates done.
        description: What is being trained and how, as JSON values.
        tensors: Weights, averages and moments, on the CPU, by flat names.
    """

    step: int
    description: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return one part of the tensors, under their names within it.

        Args:
            name: The part of the names before the first dot, for instance `model`.

        Returns:
            The tensors; empty if there is no such part.
        """
        prefix = f"{name}."
        return {
            flat.removeprefix(prefix): tensor
            for flat, tensor in self.tensors.items()
            if flat.startswith(prefix)
        }

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Return the optimiser's state of every parameter: the part `optimizer`."""
        grouped: dict[str, dict[str, Tensor]] = {}
        for flat, tensor in self.part("optimizer").items():
            parameter, name = flat.rsplit(".", 1)
            grouped.setdefault(parameter, {})[name] = tensor
        return grouped

    @property
    def best(self) -> "Best | None":
        """Return the best weights of the run so far; None if there are none or none were stored."""
        values = self.description.get(BEST)
        return None if values is None else Best(**values)

    def write(self, folder: Path) -> None:
        """Write the checkpoint into a run's folder, replacing the one that is there.

        Args:
            folder: The run's folder, which exists.

        Raises:
            OSError: The disk is full or not writable; the previous checkpoint is untouched.
        """
        header = {"step": str(self.step), "recipe": json.dumps(self.description)}
        with replacing(folder / FILE_NAME) as path:
            path.write_bytes(save(self.tensors, metadata=header))

    @classmethod
    def read(cls, folder: Path) -> "Checkpoint | None":
        """Return the checkpoint of a run, or None if it has not written one yet.

        Args:
            folder: The run's folder.

        Returns:
            The checkpoint.

        Raises:
            ValueError: The file is damaged.
        """
        path = folder / FILE_NAME
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            step, description = int(header["step"]), json.loads(header["recipe"])
            if not (isinstance(description, dict) and description):
                raise TypeError("it does not say what was trained")
            checkpoint = cls(step, description, tensors)
            _ = checkpoint.best
            return checkpoint
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"The checkpoint {path} is damaged ({error}); delete it to train from the start."
            ) from error


def flatten(nested: Mapping[Any, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors under flat names, each in memory of its own, as the file format requires.

    Args:
        nested: Tensors by two names.

    Returns:
        The tensors by both names, joined by a dot.
    """
    return {
        f"{outer}.{inner}": tensor.contiguous().clone()
        for outer, tensors in nested.items()
        for inner, tensor in tensors.items()
    }


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a temporary path beside `path` and rename it only if the block succeeds.

    Args:
        path: The file to replace.

    Yields:
        The path to write to.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
