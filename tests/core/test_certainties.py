"""What every measure of certainty promises: policies decide the most certain tokens first by it."""

import pytest
import torch
from core.worlds import WORLDS, generator

from stochloc.core import (
    CERTAINTIES,
    BlockedPosterior,
    Certainty,
    DensePosterior,
    SimplexCodebook,
    observe,
)

EXACT = WORLDS["markov chain"].denoiser
CODES = SimplexCodebook(5).double()


def spread_out(shares: torch.Tensor) -> DensePosterior:
    """Return a token for each share of probability, spread evenly over all values but one."""
    probs = (shares[:, None] / 4).repeat(1, 5)
    probs[:, 2] = 1 - shares
    return DensePosterior(probs.log()[None], CODES)


@pytest.mark.parametrize("name", CERTAINTIES)
def test_certainty_falls_from_1_as_probability_spreads_and_stays_in_its_range(name):
    measure = CERTAINTIES[name]()
    assert isinstance(measure, Certainty)
    certainty = measure(spread_out(torch.linspace(0, 0.8, 30, dtype=torch.float64)))[0]
    assert certainty[0] == 1
    assert (certainty.diff() < 0).all()
    assert (certainty >= 0).all()


@pytest.mark.parametrize("name", CERTAINTIES)
def test_certainty_of_a_token_depends_on_its_own_probabilities_alone(name):
    measure = CERTAINTIES[name]()
    tokens = EXACT.sample(20, generator(0))
    levels = 3 * torch.rand(20, 4, generator=generator(1), dtype=torch.float64)
    levels[:, 1] = torch.inf
    before, posterior = (
        torch.get_rng_state(),
        EXACT(observe(EXACT.codebook, tokens, levels, generator(2))),
    )
    certainty = measure(posterior)
    assert certainty.shape == (20, 4)
    assert (certainty[:, 1] == 1).all()
    logs = posterior.log_probs_of(0, 3)
    for row, place in ((0, 0), (7, 2), (19, 3)):
        alone = measure(DensePosterior(logs[row, place][None, None], EXACT.codebook))
        torch.testing.assert_close(alone[0, 0], certainty[row, place])
    in_blocks = BlockedPosterior(posterior.log_probs_of, EXACT.codebook, block_size=2)
    torch.testing.assert_close(measure(in_blocks), certainty)
    assert torch.equal(before, torch.get_rng_state())
