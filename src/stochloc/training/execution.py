"""How the numbers of an update are computed: in parts, with less memory, by compiled code.

None of this changes what an update is: weights after it are the same to rounding, and with
activations computed again to the last bit.

A backbone keeps its blocks in `nn.ModuleList`s. Each is compiled, or computed again, by itself: one
graph serves all blocks of a kind, whatever the depth.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stochloc.nn.declared import check_types

# What the products of the transformer are taken in: see `training.precision`.
PrecisionName = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]

_COMPILERS = ("torch._dynamo", "torch._inductor")


@dataclass(frozen=True)
class Execution:
    """How the numbers of an update are computed.

    Attributes:
        accumulate: Parts of a batch whose gradients are added up; each takes memory by itself.
        checkpoint_activations: Whether what blocks compute is computed once more in the backward
            pass in place of being kept.
        compile: Whether blocks are compiled (`torch.compile`).
    """

    accumulate: int = 1
    checkpoint_activations: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.accumulate < 1:
            raise ValueError(f"A batch has at least one part to accumulate, not {self.accumulate}.")

    def __str__(self) -> str:
        said = (
            f"{self.accumulate} parts an update" * (self.accumulate > 1),
            "activations computed again" * self.checkpoint_activations,
            "compiled" * self.compile,
        )
        return ", ".join(filter(None, said))

    def check_rows(self, rows: int) -> None:
        """Refuse more parts than there are rows.

        Args:
            rows: Windows of an update in each process.

        Raises:
            ValueError: There are more parts.
        """
        if self.accumulate > rows:
            raise ValueError(
                f"An update has {rows} windows in each process, which are no {self.accumulate} "
                "parts: lower --accumulate or raise --batch-size."
            )

    def explained(self, error: RuntimeError) -> ValueError | None:
        """Return what is to be raised for an error in an update.

        Args:
            error: Any.

        Returns:
            An error of one sentence for those of torch's compiler, None for all others.
        """
        if not (self.compile and type(error).__module__.startswith(_COMPILERS)):
            return None
        reason = next(iter(str(error).splitlines()), "no reason is given")
        cache = os.environ.get(
            "TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_*"
        )
        return ValueError(
            f"The blocks cannot be compiled ({reason}): train without --compile, or, if a process "
            f"was killed as it compiled, delete what it left in {cache} and try again."
        )

    def prepare(self, network: nn.Module, has_many_shapes: bool = False) -> None:
        """Make the blocks of a network compute as described; its weights keep their names.

        Args:
            network: The backbone of a model in training.
            has_many_shapes: Whether batches differ in rows and length: code for all shapes is
                compiled then at once, and not first for one after the other.
        """
        if not (self.compile or self.checkpoint_activations):
            return
        for block in blocks_of(network):
            forward: Callable[..., Tensor] = block.forward
            if self.compile:
                forward = torch.compile(forward, dynamic=has_many_shapes or None)
            if self.checkpoint_activations:
                # Blocks draw nothing, so no state of random numbers is needed.
                forward = partial(_computed_again, forward)
            block.forward = forward


def has_compiler() -> bool:
    """Return whether this machine has the C++ compiler with which blocks are compiled for CPUs."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual)) is not None


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a backbone: what it keeps in lists.

    Args:
        network: The backbone.

    Returns:
        Its blocks, in order.
    """
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    return [block for one in lists for block in one]


def _computed_again(forward: Callable[..., Tensor], *inputs: Any) -> Tensor:  # noqa: ANN401
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False)


PLAIN = Execution()
