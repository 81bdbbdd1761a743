"""Two-sided denoisers: what is said of a token without its own evidence, and from which side."""

import math

import pytest
import torch
from core.worlds import WORLDS, generator

from stochloc.core import (
    BlockedPosterior,
    ExactDenoiser,
    Posterior,
    SimplexCodebook,
    State,
    TwoSided,
    between,
    leave_one_out,
    observe,
    start,
)


class OneSided:
    """A denoiser that hides whether it could tell its sides apart."""

    def __init__(self, denoiser: ExactDenoiser) -> None:
        self.denoiser, self.codebook = denoiser, denoiser.codebook

    def __call__(self, state: State) -> Posterior:
        return self.denoiser(state)


class OneSidedInBlocks(OneSided):
    """The same with posteriors that are given block by block."""

    def __call__(self, state: State) -> Posterior:
        return BlockedPosterior(self.denoiser(state).log_probs_of, self.codebook, block_size=2)


def mixed_state(denoiser: ExactDenoiser, rows: int, seed: int) -> State:
    """A state with unseen, noisy and known tokens."""
    tokens = denoiser.sample(rows, generator(seed))
    levels = torch.tensor([0.0, 0.7, 3.0, math.inf], dtype=torch.float64)
    snr = levels[torch.randint(0, 4, tokens.shape, generator=generator(seed + 1))]
    return observe(denoiser.codebook, tokens, snr, generator(seed + 2))


def joined(left: State, right: State, place: int) -> State:
    """The left state before a place, the right one after it, and nothing there."""
    is_before = torch.arange(left.known.shape[-1]) < place
    both = State(
        torch.where(is_before[:, None], left.z, right.z),
        torch.where(is_before, left.known, right.known),
        torch.where(is_before, left.snr, right.snr),
    )
    return both.forget((torch.arange(len(is_before)) == place).expand(left.known.shape))


@pytest.mark.parametrize("world", WORLDS)
def test_between_is_the_posterior_of_each_place_blanked_with_its_two_sides_joined(world):
    # Sides of different sequences: on the cyclic data they fit no sequence together.
    denoiser = WORLDS[world].denoiser
    left, right = mixed_state(denoiser, 40, 0), mixed_state(denoiser, 40, 10)
    both = denoiser.between(left, right)
    assert both.calls == 1
    for place in range(WORLDS[world].length):
        blanked = denoiser(joined(left, right, place)).probs[:, place]
        torch.testing.assert_close(both.probs[:, place], blanked, atol=1e-10, rtol=0)


@pytest.mark.parametrize("world", WORLDS)
def test_the_evidence_of_each_token_completes_its_leave_one_out_posterior(world):
    denoiser = WORLDS[world].denoiser
    state = mixed_state(denoiser, 60, 0)
    whole = leave_one_out(denoiser, state).observed(state)
    torch.testing.assert_close(whole.mean, denoiser(state).mean, atol=1e-10, rtol=0)
    assert (whole.log_prob(state.known.clamp(min=0))[state.is_known] == 0).all()


@pytest.mark.parametrize("kind", [OneSided, OneSidedInBlocks])
@pytest.mark.parametrize("world", WORLDS)
def test_leaving_out_place_by_place_gives_the_same_with_a_call_for_each(world, kind):
    denoiser = WORLDS[world].denoiser
    state = mixed_state(denoiser, 20, 0)
    slow, fast = leave_one_out(kind(denoiser), state), leave_one_out(denoiser, state)
    assert (slow.calls, fast.calls) == (WORLDS[world].length, 1)
    size = denoiser.codebook.vocabulary_size
    expected = fast.log_probs_of(0, size).exp()
    torch.testing.assert_close(slow.log_probs_of(0, size).exp(), expected, atol=1e-10, rtol=0)


def test_a_known_token_has_no_part_in_what_is_said_of_it():
    denoiser = WORLDS["cyclic 5"].denoiser
    known = torch.tensor([[0, 1, 4, 3, 4]])
    answer = leave_one_out(denoiser, start(denoiser.codebook, 1, 5, known))
    assert int(answer.mode[0, 2]) == 2
    assert float(answer.confidence[0, 2]) == pytest.approx(1)


def test_known_neighbours_that_fit_no_sequence_leave_those_that_agree_best():
    denoiser = ExactDenoiser(
        SimplexCodebook(3).double(), torch.tensor([[0, 0, 0, 0], [1, 1, 1, 2]])
    )
    known = start(denoiser.codebook, 1, 4, torch.tensor([[0, 0, -1, 2]]))
    # Of places 0 and 1 one known neighbour speaks for either sequence, of the others more for one.
    answer = denoiser.between(known, known).log_prob(torch.zeros(1, 4, dtype=torch.long)).exp()
    torch.testing.assert_close(answer, torch.tensor([[0.5, 0.5, 1.0, 1.0]], dtype=torch.float64))


def test_only_a_denoiser_that_says_so_is_two_sided():
    denoiser = WORLDS["markov chain"].denoiser
    assert isinstance(denoiser, TwoSided)
    assert between(OneSided(denoiser)) is None
    state = mixed_state(denoiser, 3, 0)
    sides = between(denoiser)
    assert sides is not None
    assert torch.equal(sides(state, state).mean, denoiser.between(state, state).mean)


def test_what_is_forgotten_is_as_at_the_start_and_the_rest_as_it_was():
    denoiser = WORLDS["markov chain"].denoiser
    state = mixed_state(denoiser, 50, 0)
    where = torch.rand(50, 4, generator=generator(5)) < 0.5
    left = state.forget(where)
    begin = start(denoiser.codebook, 50, 4)
    for name in ("known", "snr", "z"):
        ours, was, empty = (getattr(s, name) for s in (left, state, begin))
        assert torch.equal(ours[where], empty[where])
        assert torch.equal(ours[~where], was[~where])
