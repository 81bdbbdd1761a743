"""The activation of all our perceptrons, `max(x, 0)²`, in as few passes over memory as it takes.

On a processor an activation costs what it reads and writes, and this one's tensor is the widest of
a block. Autograd would follow `relu` and `square` one by one, with a mask, a power and two
products; the derivative is `2 max(x, 0)`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class _SquaredReLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """Return the squares of what is positive."""
        clipped = F.relu(x)
        return clipped.mul_(clipped)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ANN401
        """Keep the input, for both derivatives."""
        del output
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        """Return the gradient of the input."""
        (x,), (gradient,) = ctx.saved_tensors, gradients
        return gradient * x.clamp(min=0).mul_(2)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:  # noqa: ANN401
        """Return the derivative along a direction."""
        (x,), (tangent,) = ctx.saved_tensors, tangents
        return tangent * x.clamp(min=0).mul_(2)


def squared_relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return `max(x, 0)²`.

    Args:
        x: Values of any shape.

    Returns:
        Their squares where they are positive, elsewhere 0.
    """
    if torch.compiler.is_compiling():
        return F.relu(x).square()  # The compiler fuses these, and cannot trace a rule of our own.
    return _SquaredReLU.apply(x)
