"""Constrained and padded denoisers beside the exact distributions they claim to describe."""

import math

import pytest
import torch
from core.worlds import full_support, generator, markov

from stochloc.core import (
    Ancestral,
    Autoregressive,
    CircleCodebook,
    Constrained,
    DensePosterior,
    Diffusion,
    ExactDenoiser,
    Follow,
    Framed,
    LearnedCodebook,
    Masked,
    Padded,
    Posterior,
    SimplexCodebook,
    State,
    bound,
    observe,
    sample,
    start,
)

# Three codes in general position span the plane: the circle's evidence is exact there as well.
CODEBOOKS = {"simplex": SimplexCodebook(3), "circle": CircleCodebook(3)}
ALLOWED = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).bool()


def within(denoiser: ExactDenoiser, allowed: torch.Tensor) -> ExactDenoiser:
    """Return the exact denoiser of the sequences that obey the constraint."""
    positions = torch.arange(denoiser.sequences.shape[1])
    obey = allowed[positions, denoiser.sequences].all(-1)
    return ExactDenoiser(denoiser.codebook, denoiser.sequences[obey], denoiser.log_prior[obey])


def probs(posterior: Posterior) -> torch.Tensor:
    assert isinstance(posterior, DensePosterior)
    return posterior.probs


def states(denoiser: ExactDenoiser, rows: int = 40) -> State:
    """Return states with unseen, noisy and known tokens."""
    tokens = denoiser.sample(rows, generator(1))
    levels = torch.tensor([0.0, 0.5, 3.0, math.inf], dtype=torch.float64)
    snr = levels[torch.randint(0, 4, tokens.shape, generator=generator(2))]
    return observe(denoiser.codebook, tokens, snr, generator(3))


@pytest.mark.parametrize("name", CODEBOOKS)
def test_a_constraint_told_as_evidence_gives_the_posterior_of_the_sequences_that_obey_it(name):
    free = full_support(3, 3, CODEBOOKS[name]).denoiser
    exact = within(free, ALLOWED)
    state = states(exact)
    ours = Constrained(free, ALLOWED)(state)
    torch.testing.assert_close(probs(ours), exact(state).probs, atol=1e-9, rtol=0)
    # Ruling out the answers alone is something else: the neighbours are not told.
    deaf = free(state).reweighted(ALLOWED.log().expand(40, -1, -1))
    assert (deaf.probs - exact(state).probs).abs().max() > 0.05


@pytest.mark.parametrize("values", [(0, 1, 4), (0, 2, 3), (1,)])
def test_a_constraint_alone_among_free_positions_is_exact_there_in_any_dimension(values):
    free = full_support(5, 3, CircleCodebook(5)).denoiser
    allowed = torch.ones(3, 5, dtype=torch.bool)
    allowed[1] = torch.isin(torch.arange(5), torch.tensor(values))
    exact = within(free, allowed)
    state = states(exact, 200)
    ours, theirs = probs(Constrained(free, allowed)(state)), exact(state).probs
    torch.testing.assert_close(ours[:, 1], theirs[:, 1], atol=1e-9, rtol=0)
    # Its neighbours are told only roughly, but that is better than nothing.
    told, untold = ours[:, [0, 2]], free(state).probs[:, [0, 2]]
    error, error_untold = ((p - theirs[:, [0, 2]]).abs().mean() for p in (told, untold))
    assert error < error_untold


def test_in_few_dimensions_the_evidence_is_the_nearest_in_least_squares_to_the_target():
    codebook = LearnedCodebook(6, 3, generator(3)).double()
    with torch.no_grad():
        codebook.directions += 1.0  # the mean of the codes is far from 0
    allowed = torch.tensor([True, False, False, True, False, True])
    free = full_support(6, 1, codebook).denoiser
    heard = codebook.evidence(Constrained(free, allowed[None]).evidence[0]).detach()
    # Best up to a factor and a constant: as far as codes can tell the tokens apart.
    design = torch.cat([codebook.vectors, torch.ones(6, 1)], 1).detach()
    target = allowed.double()
    nearest = design @ torch.linalg.lstsq(design, target[:, None]).solution[:, 0]
    told, best = (x - x.mean() for x in (heard, nearest))
    assert (best - target + target.mean()).abs().max() > 0.1
    torch.testing.assert_close(told / told.norm(), best / best.norm(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("codebook", [SimplexCodebook(5), CircleCodebook(5)])
def test_every_sequence_of_a_batch_may_have_its_own_constraint(codebook):
    free = full_support(5, 3, codebook).denoiser
    some = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 1, 0, 1], [1, 1, 0, 1, 0]]).bool()
    everything = torch.ones_like(some)
    state = start(free.codebook, 2, 3)
    both = Constrained(free, torch.stack([some, everything]))(state)
    torch.testing.assert_close(probs(both)[1], free(state).probs[1], atol=1e-12, rtol=0)
    alone = Constrained(free, some)(state)
    torch.testing.assert_close(probs(both)[0], probs(alone)[0], atol=1e-12, rtol=0)


def test_the_bound_of_the_constrained_denoiser_is_the_conditional_probability():
    free = full_support(3, 3, SimplexCodebook(3)).denoiser
    exact = within(free, ALLOWED)
    tokens = exact.sequences
    for path in (Autoregressive(), Autoregressive((2, 0, 1)), Masked()):
        ours = bound(Constrained(free, ALLOWED), tokens, Follow(path), Ancestral(), 3, generator(0))
        torch.testing.assert_close(ours.values, -exact.log_prob(tokens), atol=1e-9, rtol=0)


def test_no_walk_ever_leaves_the_constraint_even_where_the_evidence_is_not_exact():
    free = full_support(5, 3, CircleCodebook(5)).denoiser
    allowed = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [1, 1, 0, 1, 0]]).bool()
    for path in (Masked(), Diffusion()):
        drawn = sample(
            Constrained(free, allowed), start(free.codebook, 300, 3), Follow(path), Ancestral(), 4,
            generator(0),
        ).tokens  # fmt: skip
        assert allowed[torch.arange(3), drawn].all()


def test_a_constraint_that_leaves_a_position_nothing_is_refused():
    free = full_support(3, 3, SimplexCodebook(3)).denoiser
    allowed = ALLOWED.clone()
    allowed[1] = False
    with pytest.raises(ValueError, match="No token is allowed at position 1"):
        Constrained(free, allowed)


def test_a_known_token_that_is_not_allowed_is_refused():
    free = full_support(3, 3, SimplexCodebook(3)).denoiser
    state = start(free.codebook, 1, 3, known=torch.tensor([[-1, -1, 1]]))
    with pytest.raises(ValueError, match="known at position 2 is not among those allowed"):
        Constrained(free, ALLOWED)(state)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 0), (0, 3), (0, 0)])
def test_a_padded_text_has_the_marginal_distribution_of_a_stretch_of_the_longer_one(before, after):
    wide = markov().denoiser
    stop = 4 - after
    short, place = wide.sequences[:, before:stop].unique(dim=0, return_inverse=True)
    prior = torch.zeros(len(short)).double().index_add(0, place, wide.log_prior.exp())
    exact = ExactDenoiser(wide.codebook, short, prior.log())
    ours = Padded(wide, before, after)
    state = states(exact)
    torch.testing.assert_close(ours(state).mean, exact(state).mean, atol=1e-12, rtol=0)
    costs = bound(ours, short, Follow(Masked()), Ancestral(), 4, generator(0))
    torch.testing.assert_close(costs.values, -exact.log_prob(short), atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("before", "after"), [((1,), (2,)), ((2, 0), ()), ((), (1,)), ((-1,), (0,)), ((0, -1), ())]
)
def test_a_framed_text_has_the_distribution_given_the_tokens_around_it(before, after):
    wide = markov().denoiser
    row = torch.tensor([*before, *[-1] * (4 - len(before) - len(after)), *after])
    fits = ((row == -1) | (wide.sequences == row)).all(-1)
    texts, weights = wide.sequences[fits], wide.log_prior[fits].exp()
    short, place = texts[:, len(before) : 4 - len(after)].unique(dim=0, return_inverse=True)
    prior = torch.zeros(len(short)).double().index_add(0, place, weights)
    exact = ExactDenoiser(wide.codebook, short, prior.log())
    ours = Framed(wide, before, after)
    state = states(exact)
    torch.testing.assert_close(ours(state).mean, exact(state).mean, atol=1e-12, rtol=0)
    costs = bound(ours, short, Follow(Masked()), Ancestral(), 4, generator(0))
    torch.testing.assert_close(costs.values, -exact.log_prob(short), atol=1e-10, rtol=0)


def test_padding_is_not_negative():
    with pytest.raises(ValueError, match="at least 0"):
        Padded(markov().denoiser, -1, 2)
