"""Guidance against exact conditional distributions."""

from dataclasses import replace

import pytest
import torch
from core.worlds import WORLDS, full_support, generator

from stochloc.core import (
    Ancestral,
    CircleCodebook,
    Denoiser,
    DensePosterior,
    Follow,
    Guided,
    Masked,
    Unconditional,
    bound,
    observe,
    sample,
    start,
)

pytestmark = pytest.mark.bulk

WORLD = WORLDS["full support"].denoiser
LABELS = WORLD.sequences.sum(-1) % 2
GIVEN = WORLD.given(LABELS, 1)


def states():
    tokens = GIVEN.sample(40, generator(0))
    snr = torch.full(tokens.shape, 1.5, dtype=torch.float64)
    snr[::2, 0] = torch.inf
    return observe(WORLD.codebook, tokens, snr, generator(1))


def test_guidance_of_strength_1_is_the_condition_and_of_0_its_absence():
    state = states()
    assert isinstance(Guided(GIVEN, WORLD, 1.0), Denoiser)
    for strength, denoiser in ((1.0, GIVEN), (0.0, WORLD)):
        guided = Guided(GIVEN, WORLD, strength)(state)
        torch.testing.assert_close(guided.mean, denoiser(state).mean, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("strength", [0.5, 2.0, 3.7])
def test_guidance_is_the_power_of_the_quotient_token_by_token(strength):
    state = states()
    conditional, unconditional = GIVEN(state).probs, WORLD(state).probs
    expected = unconditional * (conditional / unconditional.clamp(min=1e-300)) ** strength
    expected = expected / expected.sum(-1, keepdim=True)
    guided = Guided(GIVEN, WORLD, strength)(state)
    torch.testing.assert_close(guided.probs, expected, atol=1e-10, rtol=1e-8)
    known = state.is_known
    assert (guided.log_prob(state.known.clamp(min=0))[known] == 0).all()


def test_guidance_keeps_what_either_posterior_excludes_and_the_condition_wins_if_nothing_is_left():
    def posterior_of(*probs):
        return DensePosterior(torch.tensor([[probs]], dtype=torch.float64).log(), WORLD.codebook)

    guided = posterior_of(0.5, 0.5, 0.0).guided(posterior_of(0.0, 0.5, 0.5), 2.0)
    assert guided.probs.tolist() == [[[0.0, 1.0, 0.0]]]
    apart = posterior_of(0.25, 0.75, 0.0).guided(posterior_of(0.0, 0.0, 1.0), 2.0)
    torch.testing.assert_close(apart.probs, posterior_of(0.25, 0.75, 0.0).probs)


def test_a_guided_walk_of_strength_1_draws_from_the_conditional_and_stronger_ones_sharpen_it():
    # χ² of 13 sequences, 12 degrees of freedom: above 60 with a probability of 2e-8.
    num = 20_000

    def draw(strength):
        state = start(WORLD.codebook, num, 3)
        denoiser = Guided(GIVEN, WORLD, strength)
        return sample(denoiser, state, Follow(Masked()), Ancestral(), 3, generator(2)).tokens

    tokens = draw(1.0)
    support = WORLD.sequences[LABELS == 1]
    counts = (tokens[:, None] == support).all(-1).sum(0).double()
    expected = WORLD.log_prior[LABELS == 1].softmax(0) * num
    assert float(((counts - expected).square() / expected).sum()) < 60
    assert int(counts.sum()) == num
    leaning = [float((draw(s).sum(-1) % 2 == 1).double().mean()) for s in (0.0, 0.5, 1.0)]
    assert leaning[0] < leaning[1] - 0.02 < leaning[2]


def test_an_unconditional_denoiser_ignores_hidden_tokens():
    state = states()
    hidden = torch.zeros_like(state.is_known)
    hidden[:, 0] = True
    blind = Unconditional(WORLD, hidden)(state)
    other = observe(WORLD.codebook, GIVEN.sample(40, generator(5)), state.snr, generator(6))
    z = torch.where(hidden[..., None], other.z, state.z)
    known = torch.where(hidden, other.known, state.known)
    changed = Unconditional(WORLD, hidden)(type(state)(z, known, state.snr))
    assert torch.equal(blind.mean, changed.mean)
    assert not torch.allclose(blind.mean, WORLD(state).mean)


def test_what_is_hidden_from_an_unconditional_denoiser_is_as_at_the_start_of_a_walk():
    # On the circle any other z than 0 speaks for some tokens.
    circle = full_support(3, 2, CircleCodebook(3)).denoiser
    tokens, hidden = circle.sample(5, generator(0)), torch.tensor([[True, False]]).expand(5, -1)
    state = observe(circle.codebook, tokens, torch.full((5, 2), 1.5).double(), generator(1))
    unseen = replace(state, z=state.z.masked_fill(hidden[..., None], 0.0))
    blind = Unconditional(circle, hidden)(state)
    torch.testing.assert_close(blind.mean, circle(unseen).mean, atol=1e-12, rtol=0)


def test_the_bound_is_that_of_the_guided_walk():
    # At strength 1 it is the exact conditional cost, -log P(x|y), one token at a time.
    tokens = WORLD.sequences[LABELS == 1]
    walk = bound(Guided(GIVEN, WORLD, 1.0), tokens, Follow(Masked()), Ancestral(), 3, generator(0))
    torch.testing.assert_close(walk.values, -GIVEN.log_prob(tokens), atol=1e-9, rtol=0)


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        Guided(GIVEN, WORLD, -0.5)
