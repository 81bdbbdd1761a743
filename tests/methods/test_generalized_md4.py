"""The learned schedule: the gradient includes that of the distribution of the masks."""

import itertools
import math

import torch
from methods.worlds import ALARM, TINY, generator
from torch.nn import functional as F

from stochloc.methods.generalized_md4 import GeneralizedMd4
from stochloc.nn import token_network

TOKENS = torch.tensor([[0, 2]])


def method() -> GeneralizedMd4:
    torch.manual_seed(0)
    result = GeneralizedMd4(token_network(4, 3, TINY, timed=True), 3)
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(1)))
    return result


def exact_loss(model: GeneralizedMd4) -> torch.Tensor:
    """The average over all masks and a fine grid of times, nats per token."""
    time = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    weights = model.log_weights.double().exp()
    hidden = time[:, None] ** weights[TOKENS[0]]
    total = torch.zeros((), dtype=torch.float64)
    for masks in itertools.product((False, True), repeat=2):
        is_masked = torch.tensor(masks)
        probability = torch.where(is_masked, hidden, 1 - hidden).prod(-1)
        noisy = TOKENS.masked_fill(is_masked, 3).expand(len(time), -1)
        log_probs = model.network(noisy, time).double().log_softmax(-1)
        own = F.one_hot(TOKENS, 3)
        rates = weights / time[:, None, None]
        cost = -(own * rates * (log_probs + 1)).sum(-1) + (log_probs.exp() * rates).sum(-1)
        total = total + (probability * (cost * is_masked).sum(-1)).mean()
    return total / 2


def test_the_gradient_of_the_schedule_is_that_of_the_average_over_masks_and_times():
    model = method()
    exact = exact_loss(model)
    (expected,) = torch.autograd.grad(exact, model.log_weights)
    gradients, losses = [], []
    for seed in range(60):
        loss = model.loss(TOKENS.expand(400, -1), generator(10 + seed))
        losses.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, model.log_weights)[0])
    for drawn, true in ((torch.stack(losses)[:, None], exact.detach()[None]),
                        (torch.stack(gradients), expected)):  # fmt: skip
        stderr = drawn.double().std(0) / math.sqrt(len(drawn))
        assert bool(((drawn.double().mean(0) - true).abs() < ALARM * stderr + 1e-3).all())
    assert float(expected.abs().max()) > 0.05
