"""The activation and its hand-written derivatives."""

import inspect

import torch
from torch.nn import functional as F

from stochloc.nn.backbones.squared_relu import squared_relu


def test_the_activation_and_all_its_derivatives_are_those_of_relu_and_square() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    assert torch.equal(squared_relu(x), F.relu(x).square())
    # The compiler cannot trace the run-time checks of types around the function.
    compiled = torch.compile(inspect.unwrap(squared_relu), backend="eager", fullgraph=True)
    for apply in (squared_relu, compiled):
        (gradient,) = torch.autograd.grad(apply(x), x, direction)
        (expected,) = torch.autograd.grad(F.relu(x).square(), x, direction)
        assert torch.equal(gradient, expected)
    tangent = torch.func.jvp(squared_relu, (x.detach(),), (direction,))[1]
    assert torch.equal(tangent, expected)
    assert torch.autograd.gradgradcheck(squared_relu, x)
