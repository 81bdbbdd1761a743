"""Two-sided networks to test with."""

import torch

from stochloc.nn import TWO_SIDED, LocalizationModel, ModelConfig

V = 5
# What changes how places are embedded, of models that must answer alike however they are asked.
CHOICES = (
    {},
    {"code_dimension": 3},
    {"mask_slot": True},
    {"positions": "grid:3x3"},
    {"positions": "learned:7", "given_tokens": 1},
)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def shaken(depth=4, architecture=TWO_SIDED, **choices):
    """A two-sided model in float64 whose every weight has been moved from its start."""
    torch.manual_seed(0)
    config = ModelConfig(V, 16, depth, 2, neighbour_logit=3.0, architecture=architecture, **choices)
    model = LocalizationModel(config).double()
    model.set_unigram(torch.tensor([8, 1, 3, 2, 11]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(1)))
    return model
