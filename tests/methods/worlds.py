"""A small data set with known probabilities, and what all tests of methods share."""

import itertools
import math

import torch
from scipy.stats import chi2
from torch import Tensor

from stochloc.methods.method import Frame
from stochloc.nn import Backbone

VOCABULARY, LENGTH = 3, 3
# z-score of a two-sided false alarm below 1e-6.
ALARM = 4.9
TINY = Backbone(width=32, depth=2, heads=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_sequence() -> Tensor:
    return torch.tensor(list(itertools.product(range(VOCABULARY), repeat=LENGTH)))


def true_log_probs(seed: int = 5) -> Tensor:
    """Log-probabilities of `every_sequence()`: full support, dependent tokens."""
    weights = 1.5 * torch.randn(VOCABULARY**LENGTH, generator=generator(seed), dtype=torch.float64)
    return weights.log_softmax(0)


def frame(vocabulary: int = VOCABULARY, length: int = LENGTH) -> Frame:
    return Frame(torch.ones(vocabulary, dtype=torch.long), length, TINY)


def code_of(tokens: Tensor) -> Tensor:
    """The index of each sequence in `every_sequence()`."""
    places = VOCABULARY ** torch.arange(LENGTH - 1, -1, -1)
    return (tokens * places).sum(-1)


def assert_estimates(values: Tensor, exact: float) -> None:
    """Fails with probability below 1e-6 if `values` are unbiased estimates of `exact`."""
    stderr = float(values.std() / math.sqrt(len(values)))
    assert abs(float(values.mean()) - exact) <= ALARM * stderr + 1e-6, (
        f"{float(values.mean())} ± {stderr} is not {exact}"
    )


def assert_distribution(tokens: Tensor, log_probs: Tensor) -> None:
    """Pearson's test of drawn sequences against a distribution; false alarm below 1e-6."""
    counts = torch.bincount(code_of(tokens), minlength=len(log_probs)).double()
    expected = log_probs.exp() * len(tokens)
    statistic = float(((counts - expected).square() / expected).sum())
    assert chi2.sf(statistic, len(log_probs) - 1) > 1e-6, f"chi-squared {statistic:.0f}"
