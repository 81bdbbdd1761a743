"""The channel: its distribution, its increments, and the way back.

Moments of n samples are known to σ/√n; the checks allow 5.5 standard errors (false-alarm rate 4e-8
per number). Power: with 200,000 samples a wrong √ or a lost factor ½ is hundreds of errors away.
"""

import math

import pytest
import torch
from core.worlds import WORLDS, generator
from hypothesis import given, settings
from hypothesis import strategies as st

from stochloc.core import (
    CircleCodebook,
    LearnedCodebook,
    SimplexCodebook,
    State,
    advance,
    observe,
    rewind,
    start,
)

NUM = 200_000
CODES = CircleCodebook(5)
TOKENS = torch.tensor([[3]]).expand(NUM, 1)


def full(value):
    return torch.full((NUM, 1), value, dtype=torch.float64)


def assert_law(z, mean, variance):
    """Each coordinate is normal with this mean and variance: four moments are compared."""
    scaled = (z - mean) / math.sqrt(variance)
    for power, expected, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        error = (scaled**power).mean(0) - expected
        assert (error.abs() < 5.5 * math.sqrt(spread / len(z))).all(), (power, error)


@pytest.mark.parametrize("snr", [1e-8, 0.3, 1.0, 1e4])
def test_an_observation_is_normal_with_mean_snr_x_and_variance_snr(snr):
    state = observe(CODES, TOKENS, full(snr), generator(0))
    assert_law(state.z[:, 0], snr * CODES.vectors[3], snr)


def test_at_zero_nothing_is_seen_and_at_infinity_the_token_is_known():
    snr = torch.tensor([[0.0, math.inf, 2.0]], dtype=torch.float64)
    state = observe(CODES, torch.tensor([[1, 2, 3]]), snr, generator(0))
    assert (state.z[0, 0] == 0).all()
    assert state.known.tolist() == [[-1, 2, -1]]
    assert state.snr.tolist() == snr.tolist()
    assert not state.is_finished


def test_two_advances_have_the_distribution_of_one_and_the_covariance_of_brownian_motion():
    first = observe(CODES, TOKENS, full(0.7), generator(0))
    second = advance(CODES, first, TOKENS, full(1.8), generator(1))
    assert_law(second.z[:, 0], 2.5 * CODES.vectors[3], 2.5)
    noise_1 = first.z[:, 0] - 0.7 * CODES.vectors[3]
    noise_2 = second.z[:, 0] - 2.5 * CODES.vectors[3]
    products = noise_1 * noise_2
    assert ((products.mean(0) - 0.7).abs() < 5.5 * products.std(0) / math.sqrt(NUM)).all()


def test_rewinding_gives_the_channels_distribution_and_the_covariance_of_a_bridge():
    high = observe(CODES, TOKENS, full(3.0), generator(0))
    low = rewind(CODES, high, full(1.2), generator(1))
    assert_law(low.z[:, 0], 1.2 * CODES.vectors[3], 1.2)
    products = (low.z - 1.2 * CODES.vectors[3]) * (high.z - 3.0 * CODES.vectors[3])
    assert ((products.mean(0) - 1.2).abs() < 5.5 * products.std(0) / math.sqrt(NUM)).all()
    assert (low.snr == 1.2).all()


def test_rewinding_and_advancing_again_has_the_channels_distribution():
    high = observe(CODES, TOKENS, full(3.0), generator(0))
    low = rewind(CODES, high, full(0.5), generator(1))
    again = advance(CODES, low, TOKENS, full(2.5), generator(2))
    assert_law(again.z[:, 0], 3.0 * CODES.vectors[3], 3.0)


def test_rewinding_a_known_token_is_observing_it():
    known = start(CODES, NUM, 1, known=TOKENS)
    low = rewind(CODES, known, full(0.8), generator(1))
    assert_law(low.z[:, 0], 0.8 * CODES.vectors[3], 0.8)
    assert (low.known == -1).all()


def test_rewinding_to_zero_forgets_everything_and_upwards_changes_nothing():
    state = observe(CODES, TOKENS[:4], full(2.0)[:4], generator(0))
    zero = rewind(CODES, state, torch.zeros(4, 1, dtype=torch.float64), generator(1))
    assert (zero.z == 0).all()
    same = rewind(CODES, state, torch.full((4, 1), 5.0, dtype=torch.float64), generator(1))
    assert torch.equal(same.z, state.z)
    assert torch.equal(same.snr, state.snr)


def test_known_tokens_do_not_move():
    known = torch.tensor([[4, -1]])
    state = start(CODES, 1, 2, known=known)
    moved = advance(CODES, state, torch.tensor([[4, 1]]), torch.ones(1, 2).double(), generator(0))
    assert moved.known.tolist() == [[4, -1]]
    assert (moved.z[0, 0] == 0).all()
    assert moved.snr.tolist() == [[math.inf, 1.0]]


def test_inputs_are_not_changed_in_place():
    state = observe(CODES, TOKENS[:8], full(2.0)[:8], generator(0))
    kept = State(state.z.clone(), state.known.clone(), state.snr.clone())
    advance(CODES, state, TOKENS[:8], torch.full((8, 1), math.inf).double(), generator(1))
    rewind(CODES, state, torch.ones(8, 1).double(), generator(1))
    assert torch.equal(state.z, kept.z)
    assert torch.equal(state.known, kept.known)
    assert torch.equal(state.snr, kept.snr)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 40), dimension=st.integers(1, 20), seed=st.integers(0, 99))
def test_every_codebook_lies_on_the_unit_sphere(size, dimension, seed):
    learned = LearnedCodebook(size, dimension, generator(seed))
    for codebook in (SimplexCodebook(size), CircleCodebook(size), learned):
        norms = codebook.vectors.norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
        assert codebook.vectors.shape == (size, codebook.dimension)


def test_evidence_and_mean_are_the_products_with_the_codes():
    probs = torch.rand(3, 4, 6, dtype=torch.float64, generator=generator(0)).softmax(-1)
    for codebook in (SimplexCodebook(6), CircleCodebook(6), LearnedCodebook(6, 3, generator(1))):
        codes = codebook.double().vectors
        z = torch.randn(3, 4, codebook.dimension, dtype=torch.float64, generator=generator(2))
        torch.testing.assert_close(codebook.evidence(z), z @ codes.T)
        torch.testing.assert_close(codebook.mean(probs), probs @ codes)
        tokens = torch.randint(0, 6, (3, 4), generator=generator(3))
        assert torch.equal(codebook.encode(tokens), codes[tokens])


def test_learned_codes_stay_on_the_sphere_whatever_an_optimiser_does():
    codebook = LearnedCodebook(7, 4, generator(0))
    optimizer = torch.optim.SGD(codebook.parameters(), lr=10.0)
    for _ in range(5):
        (codebook.vectors[0] - codebook.vectors[1]).square().sum().backward()
        optimizer.step()
    norms = codebook.vectors.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_codes_that_follow_from_their_number_are_not_kept_with_a_model():
    assert not SimplexCodebook(3).state_dict()
    assert not CircleCodebook(3).state_dict()


@pytest.mark.parametrize("make", [SimplexCodebook, CircleCodebook])
def test_an_empty_vocabulary_is_refused(make):
    with pytest.raises(ValueError, match="at least one token"):
        make(0)


def test_a_batch_of_no_sequences_goes_through_the_channel_and_the_denoiser_and_is_finished():
    world, tokens = WORLDS["full support"], torch.zeros(0, 3, dtype=torch.long)
    assert world.length == 3
    levels = torch.ones(0, 3, dtype=torch.float64)
    observed = observe(world.codebook, tokens, 2 * levels, generator(0))
    climbed = advance(world.codebook, observed, tokens, levels, generator(1))
    back = rewind(world.codebook, climbed, levels, generator(2))
    for state in (start(world.codebook, 0, 3), observed, climbed, back):
        assert state.z.shape == (0, 3, world.codebook.dimension)
        assert state.is_finished
        posterior = world.denoiser(state)
        assert posterior.mean.shape == state.z.shape
        assert posterior.sample(generator(3)).shape == tokens.shape
