"""Two-sided denoisers: what is said of a token without its own evidence, and from which side."""

import math

import pytest
import torch
from core.worlds import WORLDS, Incoherent, OneSided, every_text, generator

from stochloc.core import (
    BlockedPosterior,
    Constrained,
    ExactDenoiser,
    Framed,
    Guided,
    Linearised,
    Nucleus,
    Padded,
    Posterior,
    SimplexCodebook,
    State,
    Tempered,
    TwoSided,
    Unconditional,
    between,
    leave_one_out,
    observe,
    start,
)


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


EXACT = WORLDS["markov chain"].denoiser
ALL_OF_SIX = every_text(3, 6)
HIDDEN = torch.tensor([False, False, True, False])
# The first token is 1, and the third is not 2.
ALLOWED = torch.ones(4, 3, dtype=torch.bool)
ALLOWED[0, [0, 2]] = ALLOWED[2, 2] = False
TWO_SIDED: dict[str, TwoSided] = {
    **{name: world.denoiser for name, world in WORLDS.items()},
    "incoherent": Incoherent(SimplexCodebook(3), 4, 2.0),
    "tempered": Tempered(EXACT, 0.6),
    "nucleus": Nucleus(EXACT, 0.8),
    "constrained": Constrained(EXACT, ALLOWED),
    "tempered, constrained": Tempered(Constrained(EXACT, ALLOWED), 1.4),
    "constrained, tempered": Constrained(Tempered(EXACT, 1.4), ALLOWED),
    "surrounded": Padded(
        ExactDenoiser(EXACT.codebook, ALL_OF_SIX, torch.linspace(0, 5, len(ALL_OF_SIX))), 1, 1
    ),
    "framed": Framed(
        ExactDenoiser(EXACT.codebook, ALL_OF_SIX, torch.linspace(0, 5, len(ALL_OF_SIX))),
        (2,),
        (-1,),
    ),
    "without a token": Unconditional(EXACT, HIDDEN.expand(40, 4)),
    "guided": Guided(Tempered(EXACT, 0.8), EXACT.given(EXACT.sequences[:, 3], 1), 1.7),
    "linearised": Linearised(EXACT),
}


def sides_for(name: str) -> tuple[State, State]:
    """A left and a right state of different sequences, which constraints allow."""
    source = TWO_SIDED[name] if name in WORLDS else EXACT
    assert isinstance(source, ExactDenoiser)
    if "constrained" in name:
        keep = ALLOWED[torch.arange(4), source.sequences].all(-1)
        source = ExactDenoiser(source.codebook, source.sequences[keep], source.log_prior[keep])
    return mixed_state(source, 40, 0), mixed_state(source, 40, 10)


@pytest.mark.parametrize("name", TWO_SIDED)
def test_between_is_the_posterior_of_each_place_blanked_with_its_two_sides_joined(name):
    # The sides are those of different sequences: of the cyclic data they fit no sequence together.
    denoiser, (left, right) = TWO_SIDED[name], sides_for(name)
    sides = between(denoiser)
    assert sides is not None
    both, size = sides(left, right), denoiser.codebook.vocabulary_size
    for place in range(left.known.shape[1]):
        blanked = denoiser(joined(left, right, place))
        assert both.calls == blanked.calls
        probs, expected = (
            answer.log_probs_of(0, size)[:, place].exp() for answer in (both, blanked)
        )
        torch.testing.assert_close(probs, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", TWO_SIDED)
def test_the_evidence_of_each_token_completes_its_leave_one_out_posterior(name):
    denoiser, (state, _) = TWO_SIDED[name], sides_for(name)
    whole, expected = leave_one_out(denoiser, state).observed(state), denoiser(state)
    # What a denoiser is kept from seeing it leaves out of its answer too.
    seen = ~HIDDEN if name == "without a token" else torch.ones_like(state.is_known[0])
    torch.testing.assert_close(whole.mean[:, seen], expected.mean[:, seen], atol=1e-10, rtol=0)
    known = state.is_known & seen
    assert (whole.log_prob(state.known.clamp(min=0))[known] == 0).all()


def test_a_wrapper_of_a_denoiser_with_one_side_has_one_side():
    plain = OneSided(EXACT)
    for wrapper in (
        Tempered(plain, 0.6),
        Nucleus(plain, 0.6),
        Constrained(plain, ALLOWED),
        Padded(plain, 1, 1),
        Framed(plain, (0,)),
        Unconditional(plain, HIDDEN.expand(40, 4)),
        Guided(EXACT, plain, 1.7),
        Guided(plain, EXACT, 1.7),
        Linearised(plain),
    ):
        assert between(wrapper) is None


@pytest.mark.parametrize("temperature", [0.2, 0.7, 3.0])
def test_a_temperature_leaves_the_evidence_of_a_two_sided_denoiser_exact(temperature):
    state = mixed_state(EXACT, 60, 0)
    sharp = Tempered(EXACT, temperature)(state).log_probs_of(0, 3)
    others = EXACT.between(state, state).log_probs / temperature
    whole = (others + EXACT.codebook.evidence(state.z)).log_softmax(-1)
    free = ~state.is_known
    torch.testing.assert_close(sharp[free], whole[free], atol=1e-10, rtol=0)


def test_at_strong_evidence_a_tempered_two_sided_denoiser_gives_the_posterior_of_the_evidence():
    # Against all that the other tokens say, which at this temperature is up to 20 nats and more.
    tokens = torch.randint(0, 3, (60, 4), generator=generator(0))
    snr = torch.full(tokens.shape, 400.0, dtype=torch.float64)
    state = observe(EXACT.codebook, tokens, snr, generator(1))
    evidence = EXACT.codebook.evidence(state.z).softmax(-1)
    tempered = Tempered(EXACT, 0.2)(state)
    torch.testing.assert_close(tempered.mean, EXACT.codebook.mean(evidence), atol=1e-9, rtol=0)
    assert torch.equal(tempered.mode, tokens)


def test_a_temperature_bends_the_evidence_of_a_denoiser_with_one_side():
    state = observe(EXACT.codebook, EXACT.sequences, torch.full((81, 4), 2.0), generator(0))
    bent = Tempered(OneSided(EXACT), 0.5)(state).log_probs_of(0, 3)
    expected = (2 * EXACT(state).log_probs).log_softmax(-1)
    torch.testing.assert_close(bent, expected, atol=1e-10, rtol=0)
    assert float((bent - Tempered(EXACT, 0.5)(state).log_probs_of(0, 3)).abs().max()) > 1


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


def test_a_known_token_does_not_affect_its_own_leave_one_out_posterior():
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
