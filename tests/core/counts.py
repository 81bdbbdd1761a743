"""How often texts were drawn, against their probabilities."""

import math

import pytest
import torch
from torch import Tensor


def chi_square(drawn: Tensor, texts: Tensor, nats: Tensor) -> tuple[float, float]:
    """χ² of the texts' counts against `exp(-nats)`, rare ones together, and its threshold.

    A sum of k squares of normal numbers is above the threshold with a probability below 1e-7
    (Wilson and Hilferty's approximation, 5.3 standard errors).
    """
    expected = len(drawn) * (-nats).exp()
    assert float(expected.sum()) == pytest.approx(len(drawn))
    counts = (drawn[:, None] == texts).all(-1).sum(0).double()
    assert int(counts.sum()) == len(drawn)
    rare = expected < 8
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    kept = expected > 1e-9
    num = int(kept.sum()) - 1
    threshold = num * (1 - 2 / (9 * num) + 5.3 * math.sqrt(2 / (9 * num))) ** 3
    return float(((counts - expected)[kept].square() / expected[kept]).sum()), threshold
