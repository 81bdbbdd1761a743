"""A program that turns a pickle of tensors into a safetensors file; it imports torch alone.

It runs as a process of its own, so that a file which exhausts the memory or crashes the reader ends
that process and no other. Pickles can run code: torch's unpickler for weights builds tensors and
plain containers only. It maps the file instead of reading it, and sizes are compared with that of
the file before a tensor is copied: tensors that repeat their memory would grow without bounds.
"""

import pickle
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def main(source: str, target: str) -> None:
    """Write the tensors of a pickle.

    Args:
        source: A file that `torch.save` wrote: a dictionary of tensors.
        target: The safetensors file to write.

    Raises:
        ValueError: It holds anything else.
    """
    try:
        values = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"it is not a dictionary of tensors alone ({reason})") from error
    if not isinstance(values, dict):
        raise ValueError("it is not a dictionary of tensors")
    for name, tensor in values.items():
        if not (isinstance(name, str) and isinstance(tensor, torch.Tensor)):
            raise ValueError(f"it holds {str(name)[:80]!r}, which is no tensor")
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ValueError(f"{name[:80]!r} is no ordinary tensor")
    total = sum(tensor.numel() * tensor.element_size() for tensor in values.values())
    if total > Path(source).stat().st_size:
        raise ValueError("its tensors are larger than the file")
    own = {name: tensor.detach().contiguous().clone() for name, tensor in values.items()}
    save_file(own, target)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as refused:
        print(refused, file=sys.stderr)
        raise SystemExit(2) from None
