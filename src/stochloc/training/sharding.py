"""Weights, gradients and moments shared out among processes: fully sharded data parallelism.

Every process holds one part in N of each tensor. A block's weights are gathered for the time of its
products, forwards and backwards, and its gradients are averaged into the parts. Numbers are those
of whole copies, to rounding. Scalars are too small to cut: every process holds them, and averages
their gradients.

Torch's own sharding (`fully_shard`) is used for each block of the backbone and for what is outside
the blocks. On CPUs it runs with gloo, which is how it is tested here.
"""

from typing import Any, final

import torch
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

# What training calls instead of `forward`.
_CALLED = "token_nats"


@final
class Sharded(ModelParallelStrategy):
    """Fabric's strategy for a model that is sharded over all processes.

    Args:
        processes: How many there are, on all machines together.
    """

    def __init__(self, processes: int) -> None:
        super().__init__(_shard, data_parallel_size=processes, tensor_parallel_size=1)

    def clip_gradients_norm(self, *args: Any, **settings: Any) -> Tensor:  # noqa: ANN401
        """Scale gradients down to a norm and return the norm they had, as an ordinary tensor."""
        norm = super().clip_gradients_norm(*args, **settings)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard a module in place: each block of its lists of blocks, then all else."""
    over = mesh["data_parallel"]
    scalars = {own for own in module.parameters() if own.ndim == 0}
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, mesh=over)
    fully_shard(module, mesh=over, ignored_params=scalars)
    register_fsdp_forward_method(module, _CALLED)
    for own in scalars:
        if own.requires_grad:
            own.register_post_accumulate_grad_hook(_average)
    return module


@torch.no_grad()
def _average(own: Tensor) -> None:
    # Of what has been averaged before, in parts of one update, this is the same again.
    assert own.grad is not None
    distributed.all_reduce(own.grad)
    own.grad /= distributed.get_world_size()
