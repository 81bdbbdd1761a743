"""Untrusted weights are validated before memory is allocated for them.

A safetensors file says in its header which tensors it holds, and can run no code. The header is
held against a module of shapes alone, so an absurd width in a small file costs no memory. Read
values must be finite.
"""

import struct
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from torch import nn

from stochloc.nn.unfilled import unfilled

MOST_HEADER_BYTES = 16_000_000
TYPES = {"F64", "F32", "F16", "BF16"}
Shapes = dict[str, tuple[int, ...]]


def read_shapes(path: Path) -> Shapes:
    """Return the shapes of the tensors in a safetensors file; nothing else is read.

    Args:
        path: The file.

    Returns:
        Shapes by name.

    Raises:
        ValueError: The header is larger than any model's, or a tensor holds no real numbers.
        SafetensorError: The file is damaged.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) == 8 and struct.unpack("<Q", start)[0] > MOST_HEADER_BYTES:
        raise ValueError("the header of the file is larger than any model's")
    shapes: Shapes = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            if part.get_dtype() not in TYPES:
                raise ValueError(f"{name[:80]} holds no real numbers but {part.get_dtype()}")
            shapes[name] = tuple(part.get_shape())
    return shapes


def check_shapes(found: Shapes, make: Callable[[], nn.Module], depth: int) -> None:
    """Refuse tensors that are not those of a module.

    Args:
        found: Shapes in a file.
        make: Builds the module; called where it gets no memory.
        depth: Number of its blocks, each of which has tensors of its own.

    Raises:
        ValueError: A tensor is missing, unknown or of another shape.
    """
    if depth > len(found):
        raise ValueError(f"{depth} blocks are configured, but there are {len(found)} tensors")
    with unfilled():
        wanted: Shapes = {name: tuple(t.shape) for name, t in make().state_dict().items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise ValueError(
                f"{name[:80]} has shape {found.get(name)} where the configuration wants "
                f"{wanted.get(name)}"
            )


def check_finite(module: nn.Module) -> None:
    """Refuse a module with a value that is infinite or NaN.

    Args:
        module: The module with its weights.

    Raises:
        ValueError: There is one.
    """
    for name, tensor in module.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds values that are infinite or NaN")
