"""Sources: exact probabilities that sum to one and agree with brute force and with samples."""

import itertools
import math

import pytest
import torch
from scipy.stats import chi2

from stochloc.data.synthetic import Cyclic, HiddenMarkov, MarkovChain


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


SOURCES = {
    "markov": (MarkovChain.random(3, generator(1)), 4),
    "hidden": (HiddenMarkov.random(2, 3, generator(2)), 4),
    "cyclic": (Cyclic(5), 5),
    "one token": (MarkovChain.random(1, generator(3)), 3),
    "sparse": (
        HiddenMarkov(
            torch.tensor([1.0, 0.0], dtype=torch.float64),
            torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64),
            torch.tensor([[1.0, 0.0], [0.25, 0.75]], dtype=torch.float64),
        ),
        4,
    ),
}
each_source = pytest.mark.parametrize(("source", "length"), SOURCES.values(), ids=SOURCES)


@each_source
def test_the_probabilities_of_all_sequences_sum_to_one(source, length):
    sequences, log_prior = source.enumerate(length)
    assert log_prior.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert log_prior.isfinite().all()
    assert len(sequences.unique(dim=0)) == len(sequences)


@each_source
def test_sequences_left_out_of_the_enumeration_are_impossible(source, length):
    every = torch.cartesian_prod(*[torch.arange(source.vocabulary_size)] * length)
    listed, _ = source.enumerate(length)
    possible = every[source.log_prob(every) > -math.inf]
    assert torch.equal(possible, listed)


@each_source
def test_sample_frequencies_follow_the_probabilities(source, length):
    # Chi-square over sequences, the rare ones pooled; with 30,000 draws it detects a probability
    # of 0.05 that is wrong by 20 %. False alarm 1e-6 per source, and the generator is fixed.
    num = 30_000
    sequences, log_prior = source.enumerate(length)
    drawn = source.sample(num, length, generator(7))
    assert (source.log_prob(drawn) > -math.inf).all()
    _, place = torch.cat([sequences, drawn]).unique(dim=0, return_inverse=True)
    observed = torch.bincount(place, minlength=len(sequences))[place[: len(sequences)]] - 1.0
    expected = num * log_prior.exp()
    rare = expected < 10
    pooled = [torch.cat([x[~rare], x[rare].sum()[None]]) for x in (observed.double(), expected)]
    statistic = ((pooled[0] - pooled[1]) ** 2 / pooled[1].clamp(min=1.0)).sum()
    assert chi2.sf(statistic.item(), df=len(pooled[0]) - 1 or 1) > 1e-6


@each_source
def test_the_generator_alone_decides(source, length):
    before = torch.get_rng_state()
    first, again = (source.sample(9, length, generator(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert source.sample(0, length, generator()).shape == (0, length)


def test_the_forward_recursion_is_the_sum_over_hidden_paths():
    source, length = SOURCES["hidden"]
    tokens = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1]])
    for row, log_prob in zip(tokens, source.log_prob(tokens), strict=True):
        total = 0.0
        for path in itertools.product(range(2), repeat=length):
            term = source.initial[path[0]]
            for a, b in itertools.pairwise(path):
                term = term * source.transition[a, b]
            for state, token in zip(path, row, strict=True):
                term = term * source.emission[state, token]
            total += term
        assert log_prob.exp().item() == pytest.approx(float(total), rel=1e-12)


def test_a_chain_is_a_hidden_chain_that_shows_its_state():
    chain, length = SOURCES["markov"]
    shown = HiddenMarkov(chain.initial, chain.transition, torch.eye(3, dtype=torch.float64))
    sequences, log_prior = chain.enumerate(length)
    torch.testing.assert_close(shown.log_prob(sequences), log_prior, rtol=1e-12, atol=1e-12)


def test_long_sequences_do_not_underflow():
    source = HiddenMarkov.random(3, 5, generator())
    nats = -source.log_prob(source.sample(2, 4_000, generator()))
    assert nats.isfinite().all()
    assert (nats > -math.log(5e-324)).all()


def test_too_many_sequences_are_refused():
    with pytest.raises(ValueError, match="More than 1048576"):
        MarkovChain.random(4, generator()).enumerate(11)


def test_probabilities_that_are_not_distributions_are_refused():
    half = torch.full((2,), 0.5, dtype=torch.float64)
    with pytest.raises(ValueError, match="transition probabilities"):
        MarkovChain(half, torch.ones(2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="initial probabilities"):
        MarkovChain(torch.tensor([1.5, -0.5], dtype=torch.float64), half.expand(2, 2))


def test_a_cycle_has_one_length():
    for call in (
        lambda: Cyclic(5).enumerate(4),
        lambda: Cyclic(5).sample(1, 6, generator()),
        lambda: Cyclic(5).log_prob(torch.zeros(1, 3, dtype=torch.int64)),
    ):
        with pytest.raises(ValueError, match="no sequences of length"):
            call()
    with pytest.raises(ValueError, match="at least 1"):
        Cyclic(0)
    with pytest.raises(ValueError, match="at least 1 token"):
        MarkovChain.random(2, generator()).sample(1, 0, generator())
