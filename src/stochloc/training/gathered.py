"""State of training as full tensors on the CPU, whatever the parallel strategy did to them.

All functions are collective: every process calls them, and the first is given the tensors.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)

from stochloc.training.ema import AveragedWeights

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def averaged_state(
    module: nn.Module, average: AveragedWeights, parameter_names: list[str]
) -> dict[str, Any]:
    """Return the state dictionary with averaged weights, in float32.

    Args:
        module: The module as the parallel strategy wrapped it.
        average: The running average of its weights, in pieces of the weights' own type.
        parameter_names: Which entries are weights; all others are the module's buffers.

    Returns:
        The sum of the pieces for weights, buffers as they are.
    """
    whole: dict[str, Any] = {}
    for _ in average.pieces():
        for name, value in get_model_state_dict(module, options=WHOLE).items():
            piece = cast(Tensor, value).to(torch.float32, copy=True)
            is_first = name not in whole or name not in parameter_names
            whole[name] = piece if is_first else whole[name] + piece
    return whole


def load_average(module: nn.Module, average: AveragedWeights, rest: dict[str, Tensor]) -> None:
    """Set a running average of weights; those of the module itself are overwritten.

    Args:
        module: The module as the parallel strategy wrapped it.
        average: The running average, which is cut into pieces of the weights' own type.
        rest: What `averaged_state` returned.
    """
    dtype = average.parameters[0].dtype
    average.clear()
    for _ in range(average.num_pieces):
        set_model_state_dict(module, dict[str, Any](rest), options=WHOLE)
        average.add_piece()
        rest = {name: value - value.to(dtype).to(value) for name, value in rest.items()}
