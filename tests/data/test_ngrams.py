"""N-gram models: the formula of Witten and Bell, term by term, and what a longer context gains."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data import ngrams
from stochloc.data.ngrams import NgramModel
from stochloc.data.synthetic import MarkovChain

TEXT = np.array([0, 1, 2, 0, 1, 1, 0, 2, 0, 1, 2, 2, 0, 1], dtype=np.uint8)


def witten_bell(text, context, token, size):
    """Return P(token | context) straight from the definition, by counting lists."""
    shorter = witten_bell(text, context[1:], token, size) if context else 1 / size
    followers = [
        text[i + len(context)]
        for i in range(len(text) - len(context))
        if text[i : i + len(context)] == context
    ]
    if not followers:
        return shorter
    types = len(set(followers))
    return (followers.count(token) + types * shorter) / (len(followers) + types)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=40), st.integers(1, 4))
def test_every_term_follows_the_witten_bell_formula(text, order):
    model = NgramModel.fit(np.array(text), order, 4)
    probe = [*text[::-1], 3, 0, 3]
    expected = [
        witten_bell(text, probe[max(0, i - order + 1) : i], token, 4)
        for i, token in enumerate(probe)
    ]
    np.testing.assert_allclose(np.exp(model.log_prob(np.array(probe))), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_distribution_sums_to_one_whether_its_context_was_seen_or_not(order):
    model = NgramModel.fit(TEXT, order, 4)
    windows = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    sums = np.exp(model.log_prob(windows)[:, -1]).reshape(16, 4).sum(axis=1)
    np.testing.assert_allclose(sums, 1.0, rtol=1e-12)


def test_windows_are_scored_as_texts_of_their_own():
    model = NgramModel.fit(TEXT, 3, 3)
    windows = TEXT[:12].reshape(3, 4)
    each = np.stack([model.log_prob(window) for window in windows])
    np.testing.assert_array_equal(model.log_prob(windows), each)


def test_counting_in_blocks_changes_nothing(monkeypatch):
    whole = NgramModel.fit(TEXT, 3, 3).log_prob(TEXT)
    monkeypatch.setattr(ngrams, "_BLOCK", 3)
    np.testing.assert_array_equal(NgramModel.fit(TEXT, 3, 3).log_prob(TEXT), whole)


def test_a_bigram_model_learns_a_markov_chain_and_a_unigram_model_cannot():
    generator = torch.Generator().manual_seed(0)
    chain = MarkovChain.random(5, generator, concentration=0.3)
    train, test = (chain.sample(num, 500, generator) for num in (40, 10))
    models = (NgramModel.fit(train.flatten().numpy(), order, 5) for order in (1, 2))
    unigram, bigram = (model.bits_per_token(test.numpy()) for model in models)
    exact = -chain.log_prob(test).sum().item() / math.log(2) / test.numel()
    assert bigram.mean < unigram.mean - 5 * (bigram.stderr + unigram.stderr)
    assert bigram.mean == pytest.approx(exact, abs=0.01)


def test_the_standard_error_is_that_of_block_means():
    # Independent tokens: blocks know no more than tokens do, so both errors agree; the spread of
    # an error estimated from 64 blocks is 9 %, and 40 % is allowed.
    coin = np.random.default_rng(0).integers(0, 4, 40_000)
    skewed = np.minimum(coin, 2)
    model = NgramModel.fit(skewed, 1, 3)
    bits = -model.log_prob(skewed) / math.log(2)
    mean, stderr = model.bits_per_token(skewed)
    assert mean == pytest.approx(1.5, abs=0.02)
    assert stderr == pytest.approx(bits.std() / math.sqrt(bits.size), rel=0.4)
    assert model.bits_per_token(skewed[:1]).stderr == math.inf


def test_what_cannot_be_counted_or_scored_is_refused():
    with pytest.raises(ValueError, match="order must be at least 1"):
        NgramModel.fit(TEXT, 0, 3)
    with pytest.raises(ValueError, match="cannot be counted"):
        NgramModel.fit(TEXT, 8, 256)
    with pytest.raises(ValueError, match="fewer than the order"):
        NgramModel.fit(TEXT[:2], 3, 3)
    with pytest.raises(ValueError, match="outside a vocabulary of 2"):
        NgramModel.fit(TEXT, 2, 2)
    with pytest.raises(ValueError, match="no tokens"):
        NgramModel.fit(TEXT, 2, 3).bits_per_token(TEXT[:0])
