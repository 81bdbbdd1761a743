"""Sequences with a known left are asked for a second time, given that left alone."""

import dataclasses
import math

import pytest
import torch
from core.worlds import generator

from stochloc.core import start
from stochloc.core.streams import WholeBatch
from stochloc.nn import MOSTLY_LEFT, TWO_SIDED, LocalizationModel, ModelConfig
from stochloc.training.objective import cross_entropy, shown
from stochloc.training.snr import LeftToRight, TokenLogNormal

V, LABEL, BOUNDARY = 8, 6, 5
LAW = LeftToRight(TokenLogNormal(), 1 / 8, 1 / 8, 1 / 2, 0.3)
FULL = torch.randint(0, 5, (8, 7), generator=generator(1))
LABELLED = torch.cat([torch.randint(LABEL, V, (8, 1), generator=generator(2)), FULL], 1)
# Sequences of 5 to 8 tokens between boundaries.
BOUNDED = torch.nn.functional.pad(FULL, (1, 1), value=BOUNDARY)
for row, length in enumerate((9, 8, 8, 7, 9, 6, 7, 9)):
    BOUNDED[row, length - 1], BOUNDED[row, length:] = BOUNDARY, -1


def shaken(architecture, positions="rotary"):
    torch.manual_seed(0)
    config = ModelConfig(V, 16, 4, 2, neighbour_logit=3.0, architecture=architecture,
                         given_tokens=V - LABEL, positions=positions)  # fmt: skip
    model = LocalizationModel(config).double()
    model.set_unigram(torch.tensor([5, 1, 9, 2, 2, 1, 1, 1]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(1)))
    return model


def given_the_left(model, row, snr):
    """`-log Q(x_i | x_<i)` of the tokens that are predicted, where some are always known."""
    row, snr = row[None, row >= 0], snr[None, row >= 0]
    left = start(model.codebook, *row.shape, known=row)
    right = start(model.codebook, *row.shape, known=torch.where(snr.isinf(), row, -1))
    return -model.between(left, right).log_prob(row)[row < LABEL]


@pytest.mark.parametrize("architecture", [TWO_SIDED, MOSTLY_LEFT])
@pytest.mark.parametrize(("tokens", "first_label", "boundary", "positions"), [
    (FULL, 0, None, "rotary"), (FULL, 0, None, "learned:7"), (LABELLED, LABEL, None, "rotary"),
    (BOUNDED, 0, BOUNDARY, "rotary"), (BOUNDED, 0, BOUNDARY, "learned:9"),
])  # fmt: skip
def test_the_loss_is_the_mean_over_both_questions_each_computed_by_itself(
    architecture, tokens, first_label, boundary, positions
):
    model, every = shaken(architecture, positions), slice(0, 8)
    loss = cross_entropy(model, tokens, LAW, generator(4), first_label, boundary)

    noise = generator(4)
    batch = shown(tokens, LAW, noise, first_label, boundary)
    once = dataclasses.replace(batch, alone=None)
    first = once.nats(model, WholeBatch(noise, 8).rows(every), every)
    rows = batch.alone.rows.tolist()
    assert len(rows) == 4
    for row in rows:
        assert batch.left[row].isinf().all() or first_label
        told = batch.alone.snr[row]
        is_told = (tokens[row] >= LABEL) & bool(told[0] > 0) if first_label else tokens[row] == 5
        assert torch.equal(told, torch.where(is_told, math.inf, 0.0).to(told))
    second = torch.cat([given_the_left(model, tokens[r], batch.alone.snr[r]) for r in rows])
    total = first.is_target.sum() + 0.3 * len(second)
    torch.testing.assert_close(loss, (first.nats.sum() + 0.3 * second.sum()) / total)
    assert abs((loss - first.nats.sum() / first.is_target.sum()).item()) > 1e-6


def test_a_batch_without_a_known_left_is_asked_for_once():
    model = shaken(TWO_SIDED)
    none = LeftToRight(TokenLogNormal(), 0.0, 0.0, 1e-9, 0.5)
    losses = [
        cross_entropy(model, FULL, law, generator(4))
        for law in (none, dataclasses.replace(none, alone_weight=0.0))
    ]
    torch.testing.assert_close(*losses)


def test_what_is_known_of_no_right_side_is_read_once_for_all_sequences():
    model, rows = shaken(TWO_SIDED), []
    for stack in (model.transformer.left, model.transformer.right, model.transformer.join):
        stack.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    cross_entropy(model, FULL, LAW, generator(4))
    assert rows == [8, 8 + 1, 8 + 4]
    rows.clear()
    # A boundary is known on both sides, and where it stands differs.
    cross_entropy(model, BOUNDED, LAW, generator(4), boundary=BOUNDARY)
    assert rows == [8, 8 + 4, 8 + 4]
