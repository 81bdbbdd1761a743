"""The walk from left to right by reading: the plain walk's answers, draws and texts."""

import pytest
import torch
from core.worlds import TRANSITIONS, WORLDS, Incoherent, OneSided, generator

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    Block,
    BlockedPosterior,
    Constrained,
    Corrected,
    Denoiser,
    Follow,
    Framed,
    Guided,
    LearnedCodebook,
    Linearised,
    Masked,
    Nucleus,
    Padded,
    Policy,
    Posterior,
    Reveal,
    SimplexCodebook,
    Spread,
    State,
    Streams,
    Tempered,
    TwoSided,
    Unconditional,
    finish,
    localize,
    observe,
    read,
    sample,
    start,
)

BATCH, LENGTH = 60, 4


class Reading:
    """A two-sided denoiser that reads: it keeps the tokens, and asks anew about every place."""

    def __init__(self, denoiser: TwoSided, in_blocks: bool = False) -> None:
        self.denoiser, self.codebook, self.in_blocks = denoiser, denoiser.codebook, in_blocks
        self.places: list[int] = []

    @property
    def between(self):
        return self.denoiser.between

    def read(self, state: State) -> "_ReadSoFar":
        return _ReadSoFar(self, state)

    def __call__(self, state: State) -> Posterior:
        return self.denoiser(state)


class _ReadSoFar:
    def __init__(self, denoiser: Reading, state: State) -> None:
        self.denoiser, self.state = denoiser, state
        self.tokens = state.known[:, :0]

    def next(self, tokens: torch.Tensor) -> Posterior:
        self.tokens = torch.cat([self.tokens, tokens], 1)
        place, length = self.tokens.shape[1], self.state.known.shape[1]
        assert tokens.shape[1] or not place
        self.denoiser.places.append(place)
        told = torch.nn.functional.pad(self.tokens, (0, length - place), value=UNKNOWN)
        left = self.state.reveal(told, told != UNKNOWN)
        sides = self.denoiser.between
        assert sides is not None
        answer = sides(left, self.state).cropped(place, place + 1)
        if not self.denoiser.in_blocks:
            return answer
        return BlockedPosterior(answer.log_probs_of, self.codebook, block_size=2)

    @property
    def codebook(self):
        return self.denoiser.codebook


EXACT = WORLDS["markov chain"].denoiser
# Its conditionals fit no joint distribution, so each of them matters.
PLAIN = Incoherent(SimplexCodebook(3), LENGTH, 1.5)
ALLOWED = torch.ones(LENGTH, 3, dtype=torch.bool)
ALLOWED[0, [0, 2]] = ALLOWED[2, 2] = False
GIVEN = torch.tensor([[-1, -1, -1, -1], [-1, 2, -1, 1], [1, -1, 0, -1], [1, 0, 1, -1], [1] * 4])
IS_GIVEN = GIVEN.repeat(BATCH // len(GIVEN), 1) != UNKNOWN


def reading() -> dict[str, Denoiser]:
    wide = Incoherent(SimplexCodebook(3), LENGTH + 3, 1.5)
    learned = Incoherent(LearnedCodebook(5, 2, generator(3)).double().requires_grad_(False), 4, 1.0)
    return {
        "exact": Reading(EXACT),
        "incoherent": Reading(PLAIN),
        "in blocks": Reading(PLAIN, in_blocks=True),
        "learned codes": Reading(learned),
        "tempered": Tempered(Reading(PLAIN), 0.6),
        "tempered, in blocks": Tempered(Reading(PLAIN, in_blocks=True), 0.6),
        "nucleus": Nucleus(Reading(PLAIN), 0.8),
        "constrained": Constrained(Reading(PLAIN), ALLOWED),
        "constrained, each its own": Constrained(Reading(PLAIN), ALLOWED.expand(BATCH, -1, -1)),
        "constrained, tempered": Constrained(Tempered(Reading(PLAIN), 1.4), ALLOWED),
        "surrounded": Padded(Reading(wide), 2, 1),
        "framed": Framed(Reading(wide), (1, UNKNOWN), (2,)),
        "guided away from given tokens": Guided(
            Reading(PLAIN), Unconditional(Reading(PLAIN), IS_GIVEN), 1.7
        ),
        "guided": Guided(Tempered(Reading(EXACT), 0.8), Reading(PLAIN), 0.4),
    }


def beginning(denoiser: Denoiser) -> State:
    """A batch whose sequences have different tokens given, and weak evidence of some others."""
    known = GIVEN.repeat(BATCH // len(GIVEN), 1)
    levels = torch.tensor([0.0, 0.0, 0.8], dtype=torch.float64)
    snr = levels[torch.randint(0, 3, known.shape, generator=generator(1))]
    tokens = torch.ones_like(known)
    return observe(denoiser.codebook, tokens, snr, generator(2)).reveal(known, known != UNKNOWN)


def streams() -> Streams:
    return Streams([generator(n) for n in range(BATCH)], torch.device("cpu"))


@pytest.mark.parametrize("name", reading())
def test_a_reader_answers_about_each_place_as_its_denoiser_does_of_a_left_side_decided(name):
    denoiser = reading()[name]
    state = beginning(denoiser)
    texts = state.reveal(torch.ones_like(state.known), ~state.is_known)
    reader, size = read(denoiser, state), denoiser.codebook.vocabulary_size
    assert reader is not None
    for place in range(LENGTH):
        before = (torch.arange(LENGTH) < place).expand(state.known.shape)
        answer = reader.next(texts.known[:, max(0, place - 1) : place])
        seen = denoiser(state.reveal(texts.known, before))
        assert answer.calls == seen.calls
        free = ~state.is_known[:, place]
        whole = answer.observed(state.cropped(place, place + 1)).log_probs_of(0, size)[free, 0]
        expected = seen.log_probs_of(0, size)[free, place]
        torch.testing.assert_close(whole.exp(), expected.exp(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("by_stream", [True, False])
@pytest.mark.parametrize("name", reading())
def test_reading_gives_the_texts_of_the_plain_walk_and_leaves_its_randomness_where_that_does(
    name, by_stream, transition
):
    denoiser = reading()[name]
    state, policy = beginning(denoiser), Follow(Autoregressive())
    texts, left_over = [], []
    for walk in (sample, lambda *how: finish(how[1], localize(*how))):
        source = streams() if by_stream else generator(0)
        texts.append(walk(denoiser, state, policy, TRANSITIONS[transition], LENGTH, source))
        sources = source.generators if isinstance(source, Streams) else [source]
        left_over.append([torch.rand(1, generator=own).item() for own in sources if own])
    by_reading, plain = texts
    assert torch.equal(by_reading.tokens, plain.tokens)
    assert torch.equal(by_reading.snr_received, plain.snr_received)
    assert left_over[0] == left_over[1]


def test_reading_is_one_call_a_blank_and_passes_over_what_all_sequences_are_given():
    denoiser = Reading(PLAIN)
    known = torch.tensor([[1, -1, 0, -1], [1, 2, -1, -1], [1, 0, 1, 1]])
    state = start(PLAIN.codebook, 3, LENGTH, known)
    drawn = sample(denoiser, state, Follow(Autoregressive()), Ancestral(), 9, generator(0))
    assert denoiser.places == [1, 2, 3]
    assert drawn.denoiser_calls == 3
    given = known != UNKNOWN
    assert torch.equal(drawn.tokens[given], known[given])
    assert (drawn.tokens >= 0).all()


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        (Follow(Autoregressive()), LENGTH - 1),
        (Follow(Autoregressive((3, 2, 1, 0))), LENGTH),
        (Follow(Spread()), LENGTH),
        (Follow(Block(2, Masked())), LENGTH),
        (Reveal(), LENGTH),
        (Corrected(Follow(Autoregressive())), LENGTH),
    ],
    ids=str,
)
def test_no_other_walk_reads(policy: Policy, steps):
    denoiser = Reading(PLAIN)
    sample(denoiser, start(PLAIN.codebook, 5, LENGTH), policy, Ancestral(), steps, generator(0))
    assert denoiser.places == []


def test_a_random_order_reads_where_it_happens_to_run_from_left_to_right():
    """With two blanks a half of the orders do: in 60 draws all or none has a chance of 2e-18."""
    known = torch.tensor([[1, -1, 0, -1]])
    read_first = []
    for seed in range(60):
        denoiser = Reading(PLAIN)
        state = start(PLAIN.codebook, 1, LENGTH, known)
        walk = (denoiser, state, Follow(Masked()), Ancestral(), LENGTH)
        drawn, plain = (
            sample(*walk, generator(seed)),
            finish(state, localize(*walk, generator(seed))),
        )
        assert torch.equal(drawn.tokens, plain.tokens)
        read_first.append(bool(denoiser.places))
    assert any(read_first)
    assert not all(read_first)


def test_a_text_without_blanks_is_not_read():
    denoiser = Reading(PLAIN)
    state = start(PLAIN.codebook, 1, LENGTH, torch.ones(1, LENGTH, dtype=torch.long))
    drawn = sample(denoiser, state, Follow(Autoregressive()), Ancestral(), LENGTH, generator(0))
    assert denoiser.places == []
    assert drawn.denoiser_calls == 0


def test_a_wrapper_of_a_denoiser_that_cannot_read_cannot_read():
    plain, able = OneSided(EXACT), Reading(EXACT)
    state = beginning(EXACT)
    for wrapper in (
        plain,
        Tempered(plain, 0.6),
        Nucleus(plain, 0.6),
        Constrained(plain, ALLOWED),
        Padded(plain, 1, 1),
        Framed(plain, (0,)),
        Unconditional(plain, IS_GIVEN),
        Guided(able, plain, 1.7),
        Guided(plain, able, 1.7),
        Linearised(plain),
    ):
        assert read(wrapper, state) is None


def test_a_denoiser_kept_from_evidence_that_a_walk_would_use_does_not_read():
    state = beginning(EXACT)
    assert read(Unconditional(Reading(EXACT), torch.ones_like(IS_GIVEN)), state) is None


def test_a_reader_of_constrained_texts_refuses_a_given_token_that_is_not_allowed():
    known = torch.tensor([[UNKNOWN, UNKNOWN, 2, UNKNOWN]])
    with pytest.raises(ValueError, match="known at position 2 is not among those allowed"):
        read(Constrained(Reading(EXACT), ALLOWED), start(EXACT.codebook, 1, LENGTH, known))
