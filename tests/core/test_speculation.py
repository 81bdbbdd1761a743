"""Speculative sampling has the distribution of the walk from left to right, in fewer calls."""

import pytest
import torch
from core.counts import chi_square
from core.worlds import WORLDS, Incoherent, OneSided, every_text, generator
from torch import Tensor

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    BlockedPosterior,
    ExactDenoiser,
    Follow,
    Guided,
    Posterior,
    SimplexCodebook,
    Speculation,
    State,
    Streams,
    Tempered,
    TwoSided,
    left_to_right,
    observe,
    sample,
    sample_left_to_right,
    start,
)

INCOHERENT = Incoherent(SimplexCodebook(3), 4, 1.5)
GIVEN = torch.tensor([UNKNOWN, UNKNOWN, 2, UNKNOWN])
NUM = 6_000


class InBlocks:
    """A two-sided denoiser whose posteriors are given block by block."""

    def __init__(self, denoiser: TwoSided) -> None:
        self.denoiser, self.codebook = denoiser, denoiser.codebook

    def between(self, left: State, right: State) -> Posterior:
        assert self.denoiser.between is not None
        answer = self.denoiser.between(left, right)
        return BlockedPosterior(answer.log_probs_of, self.codebook, block_size=2)

    def __call__(self, state: State) -> Posterior:
        return self.between(state, state).observed(state)


DENOISERS: dict[str, TwoSided] = {
    **{name: world.denoiser for name, world in WORLDS.items()},
    "incoherent": INCOHERENT,
    "incoherent, tempered": Tempered(INCOHERENT, 0.6),
    "incoherent, in blocks": InBlocks(INCOHERENT),
}


def texts_of(name: str) -> Tensor:
    return WORLDS[name].denoiser.sequences if name in WORLDS else every_text(3, 4)


@pytest.mark.parametrize("name", DENOISERS)
def test_texts_are_drawn_as_often_as_from_left_to_right(name):
    """Against the enumerated chain rule; false alarms below 1e-7.

    Power, by trying: thresholds are at most 110; with every draft accepted χ² is above 29,000, and
    with tokens redrawn from p in place of (p - q)+ above 280, but for the cyclic data, whose first
    token leaves nothing to choose.
    """
    denoiser, texts = DENOISERS[name], texts_of(name)
    state = start(denoiser.codebook, NUM, texts.shape[1])
    drawn = sample_left_to_right(denoiser, state, generator(0))
    statistic, threshold = chi_square(drawn.tokens, texts, left_to_right(denoiser, texts).values)
    assert statistic < threshold


def test_the_parallel_drafts_of_these_tests_are_far_from_the_walk():
    for name in ("cyclic 5", "incoherent"):
        denoiser, texts = DENOISERS[name], texts_of(name)
        chain = (-left_to_right(denoiser, texts).values).exp()
        nothing = start(denoiser.codebook, len(texts), texts.shape[1])
        draft = denoiser(nothing).log_prob(texts).sum(-1).exp()
        assert float((chain - draft).clamp(min=0).sum()) > 0.5


@pytest.mark.parametrize("name", ["full support", "incoherent"])
def test_given_tokens_stay_and_condition_those_on_their_left(name):
    denoiser = DENOISERS[name]
    known = GIVEN[-texts_of(name).shape[1] :]
    texts = texts_of(name)[((texts_of(name) == known) | (known == UNKNOWN)).all(-1)]
    state = start(denoiser.codebook, NUM, texts.shape[1], known=known.expand(NUM, -1))
    drawn = sample_left_to_right(denoiser, state, generator(0))
    nats = left_to_right(denoiser, texts, known.expand(texts.shape)).values
    statistic, threshold = chi_square(drawn.tokens, texts, nats)
    assert statistic < threshold
    assert int(drawn.rounds.max()) <= int((known == UNKNOWN).sum())


@pytest.mark.parametrize("name", ["markov chain", "incoherent"])
def test_evidence_at_a_finite_snr_is_heeded_as_by_the_walk(name):
    denoiser, texts = DENOISERS[name], every_text(3, 4)
    snr = torch.tensor([[0.0, 2.0, torch.inf, 1.0]], dtype=torch.float64)
    state = observe(denoiser.codebook, torch.tensor([[0, 1, 2, 0]]), snr, generator(5))
    one = state.known[0] != UNKNOWN
    texts = texts[(texts[:, one] == state.known[0, one]).all(-1)]

    def repeated(num: int) -> State:
        rows = (state.z.expand(num, -1, -1), state.known.expand(num, -1), state.snr.expand(num, -1))
        return State(*rows)

    nats, begin = torch.zeros(len(texts), dtype=torch.float64), repeated(len(texts))
    for place in range(4):
        before = begin.reveal(texts, (torch.arange(4) < place).expand(texts.shape))
        nats -= denoiser(before).log_prob(texts)[:, place]
    drawn = sample_left_to_right(denoiser, repeated(NUM), generator(0))
    statistic, threshold = chi_square(drawn.tokens, texts, nats)
    assert statistic < threshold


class Counting:
    """A two-sided denoiser that counts how often it is asked."""

    def __init__(self, denoiser: TwoSided) -> None:
        self.denoiser, self.codebook, self.calls = denoiser, denoiser.codebook, 0

    def between(self, left: State, right: State) -> Posterior:
        assert self.denoiser.between is not None
        self.calls += 1
        return self.denoiser.between(left, right)

    def __call__(self, state: State) -> Posterior:
        return self.between(state, state).observed(state)


@pytest.mark.parametrize("name", DENOISERS)
def test_the_calls_reported_are_those_made_and_never_more_than_tokens(name):
    counting, texts = Counting(DENOISERS[name]), texts_of(name)
    known = torch.where(torch.rand(texts.shape, generator=generator(1)) < 0.3, texts, UNKNOWN)
    state = start(counting.codebook, *texts.shape, known=known)
    drawn = sample_left_to_right(counting, state, generator(0))
    assert drawn.denoiser_calls == counting.calls == int(drawn.rounds.max())
    assert torch.equal(drawn.num_free, (known == UNKNOWN).sum(-1))
    assert (drawn.rounds <= drawn.num_free).all()
    assert ((drawn.rounds == 0) == (drawn.num_free == 0)).all()
    assert torch.equal(drawn.tokens[known >= 0], known[known >= 0])
    both = Guided(counting, counting, 1.0)
    guided = sample_left_to_right(both, state, generator(0))
    assert guided.denoiser_calls == 2 * int(guided.rounds.max())


def test_independent_tokens_take_two_calls_and_dependent_ones_as_many_as_they_must():
    free = ExactDenoiser(SimplexCodebook(2).double(), every_text(2, 8))
    drawn = sample_left_to_right(free, start(free.codebook, 50, 8), generator(0))
    assert set(drawn.rounds.tolist()) == {2}
    assert drawn.rounds_per_token == 0.25
    # Of sequences that count upwards the first token fixes all, which the second call is told.
    cyclic = WORLDS["cyclic 7"].denoiser
    drawn = sample_left_to_right(cyclic, start(cyclic.codebook, 500, 7), generator(0))
    assert 2 / 7 < drawn.rounds_per_token < 5 / 7


def test_with_streams_of_their_own_sequences_are_drawn_as_if_alone():
    texts = every_text(3, 4)[::9]
    known = torch.where(torch.rand(texts.shape, generator=generator(1)) < 0.3, texts, UNKNOWN)

    def drawn(rows: range) -> Speculation:
        streams = Streams([generator(7 + row) for row in rows], torch.device("cpu"))
        part = known[list(rows)]
        state = start(INCOHERENT.codebook, *part.shape, known=part)
        return sample_left_to_right(INCOHERENT, state, streams)

    alone, together = [drawn(range(row, row + 1)) for row in range(9)], drawn(range(9))
    assert torch.equal(torch.cat([one.tokens for one in alone]), together.tokens)
    assert torch.equal(torch.cat([one.rounds for one in alone]), together.rounds)


def test_a_denoiser_with_one_side_takes_the_walk_itself():
    denoiser = OneSided(INCOHERENT)
    state = start(denoiser.codebook, 20, 4, GIVEN.expand(20, -1))
    drawn = sample_left_to_right(denoiser, state, generator(3))
    policy = Follow(Autoregressive())
    walked = sample(denoiser, state, policy, Ancestral(), 4, generator(3))
    assert torch.equal(drawn.tokens, walked.tokens)
    assert drawn.denoiser_calls == walked.denoiser_calls == 3
    assert drawn.rounds_per_token == 1


def test_where_all_tokens_are_known_none_is_asked_for():
    known = torch.tensor([[0, 1, 2, 0]])
    drawn = sample_left_to_right(INCOHERENT, start(INCOHERENT.codebook, 1, 4, known), generator(0))
    assert torch.equal(drawn.tokens, known)
    assert (drawn.denoiser_calls, drawn.rounds_per_token) == (0, 0.0)
