"""Combs that move from left to right: who is decided when, and what is lost by it."""

import pytest
import torch
from core.worlds import LONG, generator

from stochloc.core import (
    Ancestral,
    Autoregressive,
    Custom,
    ExactDenoiser,
    Follow,
    SimplexCodebook,
    Spread,
    Sweep,
    bound,
    sample,
    start,
)
from stochloc.data import MarkovChain


def all_nats(path, num_steps):
    """`-log P` of every sequence under the walk."""
    return bound(LONG, LONG.sequences, Follow(path), Ancestral(), num_steps, generator(0))


def entropy(places):
    """Entropy of the tokens at some places of the chain, nats."""
    weights = 2 ** torch.arange(len(places))
    names = (LONG.sequences[:, places] * weights).sum(-1)
    shares = torch.zeros(2 ** len(places)).double().index_add(0, names, LONG.log_prior.exp())
    return float(torch.special.entr(shares).sum())


@pytest.mark.parametrize("length", [1, 2, 7, 12, 33])
def test_step_n_decides_the_nth_token_of_every_n_and_no_other(length):
    free = torch.ones(2, length, dtype=torch.bool)
    for steps in range(1, length + 3):
        knots = Sweep().draw(steps, free, generator(0))
        groups = min(steps, length)
        assert knots.num_steps == groups
        for n in range(groups + 1):
            expected = torch.arange(length) % groups < n
            assert torch.equal(knots.snr(n).isinf(), expected.expand(2, -1))


def test_only_free_tokens_are_counted_so_the_comb_moves_over_the_blanks_of_an_infilling():
    free = torch.rand(30, 40, generator=generator(1)) < 0.4
    knots = Sweep().draw(4, free, generator(2))
    assert torch.equal(knots.steps, free.sum(-1, keepdim=True).clamp(max=4))
    for n in range(4):
        due = knots.snr(n + 1).isinf() & knots.snr(n).isfinite()
        for row in range(30):
            blanks = free[row].nonzero().flatten().tolist()
            steps = int(knots.steps[row])
            decided = due[row].nonzero().flatten().tolist()
            assert decided == (blanks[n::steps] if n < steps else [])


def test_with_a_step_for_every_token_it_is_the_autoregressive_walk():
    torch.testing.assert_close(all_nats(Sweep(), 6).values, -LONG.log_prior, atol=1e-9, rtol=0)
    begun = start(LONG.codebook, 50, 6)
    drawn = [
        sample(LONG, begun, Follow(path), Ancestral(), 6, generator(5)).tokens
        for path in (Sweep(), Autoregressive())
    ]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("num_steps", range(1, 7))
def test_the_walk_is_a_law_and_loses_the_dependence_within_the_first_comb_of_a_chain(num_steps):
    # Two teeth are apart by one of the first comb, given which they are independent.
    walk = all_nats(Sweep(), num_steps)
    assert walk.is_exact
    assert float((-walk.values).exp().sum()) == pytest.approx(1, abs=1e-9)
    lost = float((LONG.log_prior.exp() * (walk.values + LONG.log_prior)).sum())
    first = list(range(0, 6, num_steps))
    dependence = sum(entropy([place]) for place in first) - entropy(first)
    assert lost == pytest.approx(dependence, abs=1e-9)
    assert (lost > 1e-3) == (num_steps < 6)


def test_on_a_chain_in_equilibrium_it_loses_what_spread_groups_lose():
    chain = MarkovChain(torch.tensor([0.75, 0.25]).double(),
                        torch.tensor([[0.9, 0.1], [0.3, 0.7]]).double())  # fmt: skip
    still = ExactDenoiser(SimplexCodebook(2).double(), *chain.enumerate(6))

    def lost(path, steps):
        walk = bound(still, still.sequences, Follow(path), Ancestral(), steps, generator(0))
        return float((still.log_prior.exp() * (walk.values + still.log_prior)).sum())

    for steps in (2, 3):
        free = torch.ones(40, 6, dtype=torch.bool)
        offsets = Spread().draw(steps, free, generator(1)).stack().unique(dim=1)
        assert offsets.shape[1] == steps
        for knots in offsets.unbind(1):
            assert lost(Custom(knots), 1) == pytest.approx(lost(Sweep(), steps), abs=1e-9)
