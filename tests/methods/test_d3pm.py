"""D3PM's loss: T times the divergence of one step, plus its auxiliary loss."""

import pytest
import torch
from methods.oracles import MaskOracle
from methods.worlds import LENGTH, VOCABULARY, assert_estimates, every_sequence, frame, generator

from stochloc.methods import METHODS
from stochloc.methods.d3pm import D3pm
from stochloc.methods.kernels import absorbing
from stochloc.methods.schedules import Linear

NUM_STEPS = 5


def method(auxiliary_weight: float) -> D3pm:
    kernel = absorbing(VOCABULARY)
    return D3pm(MaskOracle(), VOCABULARY, kernel, Linear(), NUM_STEPS, auxiliary_weight)


@pytest.mark.bulk
@torch.no_grad()
def test_without_the_auxiliary_loss_the_loss_is_the_sum_over_steps():
    # One sequence in all rows, because the strata of time belong to rows.
    tokens = every_sequence()[5:6].expand(20, -1)
    drawn = torch.stack([method(0.0).loss(tokens, generator(seed)) for seed in range(400)])
    each, copies = method(0.0), tokens.repeat(400, 1)
    total = 0.0
    for k in range(1, NUM_STEPS + 1):
        step = torch.full((len(copies),), k)
        total += float(each.step_nats(copies, step, generator(1000 + k))[0].mean())
    assert_estimates(drawn.double(), total)


@pytest.mark.bulk
@torch.no_grad()
def test_the_auxiliary_loss_is_weighted_relative_to_one_step_not_to_all():
    # Of masked tokens alone: carry-over makes the others certain.
    tokens, weight = every_sequence()[5:6].expand(20, -1), 0.3
    drawn = torch.stack([
        method(weight).loss(tokens, generator(s)) - method(0.0).loss(tokens, generator(s))
        for s in range(400)
    ])  # fmt: skip
    expected = 0.0
    for k in range(1, NUM_STEPS + 1):
        is_masked = torch.rand(400 * len(tokens), LENGTH, generator=generator(k)) < k / NUM_STEPS
        rows = tokens.repeat(400, 1)
        log_probs = MaskOracle()(rows.masked_fill(is_masked, VOCABULARY)).log_softmax(-1)
        nats = -log_probs.gather(-1, rows[..., None])[..., 0] * is_masked
        expected += weight * float(nats.mean())
    assert_estimates(drawn.double(), expected)


def test_d3pm_absorbing_has_the_auxiliary_loss_and_d3pm_uniform_has_not():
    weights = [METHODS[f"d3pm-{kind}"](frame()) for kind in ("absorbing", "uniform")]
    assert [one.auxiliary_weight for one in weights if isinstance(one, D3pm)] == [0.01, 0.0]
