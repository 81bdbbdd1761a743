"""Corrector rounds: which keep the exact distribution, shown by their kernels and by walks.

A round over known tokens is a Markov kernel on sequences. Its set and order of tokens come from the
library's own plan with given keys, its probabilities from the library's own rises; the averages
over keys are sums. Statistical checks state what they allow and what they could not miss.
"""

import math
from dataclasses import dataclass
from itertools import permutations

import pytest
import torch
from core.worlds import WORLDS, full_support, generator
from torch import Tensor

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    AtRandom,
    Block,
    Capped,
    Choice,
    Corrected,
    Diffusion,
    Euler,
    Follow,
    LeastConfident,
    Lomax,
    Masked,
    OneByOne,
    Policy,
    Redraw,
    Remasking,
    SimplexCodebook,
    State,
    Streams,
    Together,
    Uniform,
    localize,
    observe,
    rewind,
    sample,
    start,
)

pytestmark = pytest.mark.bulk

WORLD = full_support(3, 3, SimplexCodebook(3), seed=0)
EXACT = WORLD.denoiser
ALL = EXACT.sequences
PRIOR = EXACT.log_prior.exp()
CHAIN = WORLDS["markov chain"].denoiser


@dataclass(frozen=True)
class Fixed:
    """Takes tokens in a given order."""

    keys: tuple[int, ...]

    def order(self, confidence: Tensor, generator: torch.Generator | Streams) -> Tensor:
        return torch.tensor(self.keys).expand(confidence.shape).to(confidence)


def kernel(keys: tuple[int, ...], share: float, redraw: Redraw) -> Tensor:
    """Return the exact kernel of a round over known tokens that takes them in this order."""
    num = len(ALL)
    before, after = ALL.repeat_interleave(num, 0), ALL.repeat(num, 1)
    known = start(EXACT.codebook, *before.shape, known=before)
    policy = Corrected(Follow(Masked()), share=share, choice=Fixed(keys), redraw=redraw)
    rounds = policy.start(start(EXACT.codebook, *before.shape), 3, generator(0)).rounds
    assert rounds is not None
    plan = rounds.plan(known, torch.ones(num * num, dtype=torch.bool), generator(0))
    state, log_prob = rewind(EXACT.codebook, known, plan.lower, generator(0)), torch.zeros(())
    for rise in plan.rises:
        log_prob = log_prob + (EXACT(state).log_prob(after) * (rise > 0)).sum(-1)
        state = state.reveal(after, rise > 0)
    assert state.is_finished
    return log_prob.exp().masked_fill((state.known != after).any(-1), 0.0).view(num, num)


def total_variation(probs: Tensor) -> float:
    return 0.5 * float((probs - PRIOR).abs().sum())


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_distribution_is_kept_by_every_set_one_by_one_and_by_sets_of_one_together(share):
    """Exactly: without any sampling. Two drawn together move the distribution by 0.1 at once."""
    num_taken = math.ceil(3 * share)
    for keys in permutations(range(3)):
        exact = kernel(keys, share, OneByOne())
        torch.testing.assert_close(exact.sum(-1), torch.ones(27).double())
        torch.testing.assert_close(PRIOR @ exact, PRIOR, atol=1e-12, rtol=0)
        # The tokens that were not taken stay: as many sequences can follow as values are drawn.
        assert ((exact > 0).sum(-1) == 3**num_taken).all()
        together = total_variation(PRIOR @ kernel(keys, share, Together()))
        assert together < 1e-12 if num_taken == 1 else together > 0.1


def test_rounds_bring_any_distribution_closer_and_one_that_rewinds_all_gives_the_prior_at_once():
    uniform = torch.full((27,), 1 / 27, dtype=torch.float64)
    round_of_one = torch.stack(
        [kernel(keys, 0.1, OneByOne()) for keys in permutations(range(3))]
    ).mean(0)
    distances, probs = [total_variation(uniform)], uniform
    for _ in range(20):
        probs = probs @ round_of_one
        distances.append(total_variation(probs))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.05 < 0.3 < distances[0]
    assert total_variation(uniform @ kernel((0, 1, 2), 1.0, OneByOne())) < 1e-12


def counts(tokens: Tensor) -> Tensor:
    return (tokens[:, None] == ALL).all(-1).sum(0).double()


def chi_square(tokens: Tensor, probs: Tensor = PRIOR) -> float:
    expected = probs * len(tokens)
    return float(((counts(tokens) - expected).square() / expected).sum())


def walk(policy: Policy, num: int, transition=None, steps: int = 3, state=None) -> Tensor:
    state = start(EXACT.codebook, num, 3) if state is None else state
    return sample(EXACT, state, policy, transition or Ancestral(), steps, generator(1)).tokens


# One token moves at a time along these, so the walks are exact before any round.
PATHS = {
    "masked": (Masked(), 3, 0.0),
    "masked, softly taken back": (Masked(), 3, 1.5),
    "diffusion, one token after another": (Block(1, Diffusion(Lomax())), 6, 0.7),
}


@pytest.mark.parametrize("transition", [Ancestral(), Euler()], ids=["ancestral", "euler"])
@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
@pytest.mark.parametrize("name", PATHS)
def test_with_the_exact_corrector_a_walk_keeps_the_exact_distribution(name, share, transition):
    """χ² of 27 sequences, 26 degrees of freedom: above 90 with a probability of 6e-9.

    8,000 samples see a total variation of 0.05 at every try: χ² is then at least
    4 · 8,000 · 0.05² = 80 above its mean of 26.
    """
    path, steps, snr = PATHS[name]
    if isinstance(transition, Euler) and isinstance(path, Block):
        pytest.skip("Euler's own finite steps are not exact.")
    policy = Corrected(Follow(path), rounds=2, share=share, snr=snr)
    assert chi_square(walk(policy, 8000, transition, steps)) < 90


def test_the_sharpening_correctors_do_not_keep_it():
    """The distances of the module's text, each from 8,000 samples (an error of 0.02 or less)."""
    far = {}
    for rounds in (1, 3, 10):
        for name, policy in {
            "least": Corrected(Follow(Masked()), rounds, 0.1, choice=LeastConfident()),
            "two": Corrected(Follow(Masked()), rounds, 0.6, redraw=Together()),
        }.items():
            far[name, rounds] = total_variation(counts(walk(policy, 8000)) / 8000)
    expected = {("least", 1): 0.18, ("least", 3): 0.31, ("least", 10): 0.36}
    expected |= {("two", 1): 0.225, ("two", 3): 0.225, ("two", 10): 0.225}
    for key, distance in far.items():
        assert distance == pytest.approx(expected.get(key, 0.0), abs=0.035), far


def test_random_corrections_bring_a_coarse_walk_close_to_the_exact_distribution():
    # Three tokens at once are drawn independently: χ² above 300. Ten rounds mend it.
    assert chi_square(walk(Follow(Masked()), 8000, steps=1)) > 300
    assert chi_square(walk(Corrected(Follow(Masked()), 10, 0.6), 8000, steps=1)) < 90


def softly_masked(num: int, levels: tuple[float, ...]) -> tuple[State, Tensor]:
    """Return text read with doubt, and its exact distribution given what was read."""
    read = ALL[int(PRIOR.argmax())].expand(num, 3)
    snr = torch.tensor(levels).double().expand(num, 3)
    z = snr.masked_fill(snr.isinf(), 0.0)[..., None] * EXACT.codebook.encode(read)
    known = torch.where(snr.isinf(), read, UNKNOWN)
    state = State(z, known, snr)
    first = State(z[:1], known[:1], snr[:1])
    return state, EXACT.sequence_log_posterior(first)[0].exp()


@pytest.mark.parametrize(
    "policy",
    [
        Corrected(Follow(Masked()), rounds=3, share=0.1),
        Corrected(Follow(Masked()), rounds=2, share=1.0),
        Corrected(Follow(Masked()), rounds=2, share=0.6, snr=2.5),
        Corrected(Follow(Masked()), rounds=2, share=0.6, snr=1.0),
    ],
)
def test_evidence_given_at_the_start_is_not_forgotten_by_rounds(policy):
    """χ² as above, given what was read; without it what was read is far less likely."""
    state, probs = softly_masked(8000, (2.0, 1.0, 3.0))
    tokens, read = walk(policy, 8000, state=state), int(PRIOR.argmax())
    possible = probs * 8000 > 2
    expected = torch.cat([probs[possible], probs[~possible].sum()[None]]) * 8000
    seen = counts(tokens)
    seen = torch.cat([seen[possible], seen[~possible].sum()[None]])
    assert float(((seen - expected).square() / expected.clamp(min=1)).sum()) < 90
    assert float(probs[read]) > 0.6 > 0.3 > float(PRIOR[read])


def test_evidence_given_at_the_start_is_not_forgotten_by_remasking():
    # Rarely more than one token is decided in one of 60 steps: P(read | read) within 0.03.
    state, probs = softly_masked(8000, (2.0, 1.0, 3.0))
    tokens, read = walk(Remasking(Capped(0.3)), 8000, state=state, steps=60), int(PRIOR.argmax())
    kept = float((tokens == ALL[read]).all(-1).double().mean())
    assert kept == pytest.approx(float(probs[read]), abs=0.03)


def test_a_token_never_goes_below_the_snr_it_had_at_the_start():
    state, _ = softly_masked(50, (2.0, 0.5, math.inf))
    for policy in (
        Corrected(Follow(Masked()), rounds=2, share=0.6, snr=1.0),
        Remasking(Capped(0.5)),
    ):
        before, fell = state.snr, False
        for step in localize(EXACT, state, policy, Ancestral(), 6, generator(0)):
            assert (step.state.snr >= state.snr - 1e-12).all()
            assert (step.state.known[:, 2] == state.known[:, 2]).all()
            fell |= bool((step.state.snr < before).any())
            before = step.state.snr
        assert fell, "nothing was taken back, so nothing could go too far"


def test_a_bridge_from_the_start_has_the_distribution_of_the_channel_that_began_there():
    """20,000 copies; 5.5 standard errors of means and of (co)variances, at most 0.05."""
    num = 20_000
    floor, _ = softly_masked(num, (2.0, 0.5, 0.0))
    tokens = ALL[5].expand(num, 3)
    high = torch.tensor([6.0, math.inf, 3.0]).double().expand(num, 3)
    low = torch.tensor([3.0, 1.5, 1.0]).double().expand(num, 3)
    climbed = observe(EXACT.codebook, tokens, high - floor.snr, generator(1))
    z = torch.where(climbed.is_known[..., None], 0.0, climbed.z + floor.z)
    state = State(z, climbed.known, high)
    back = rewind(EXACT.codebook, state, low, generator(2), floor)
    rise, x = low - floor.snr, EXACT.codebook.encode(tokens)
    noise = back.z - floor.z - rise[..., None] * x
    error = 5.5 / math.sqrt(num)
    assert (noise.mean(0).abs() < error * rise[0, :, None].sqrt()).all()
    assert (noise.var(0) / rise[0, :, None] - 1).abs().max() < error * math.sqrt(2)
    # Together with where it came from it is Brownian motion: the covariance is the lower variance.
    above = (state.z - floor.z - (high - floor.snr)[..., None] * x)[:, [0, 2]]
    covariance = (above * noise[:, [0, 2]]).mean(0)
    assert (covariance - rise[0, [0, 2], None]).abs().max() < error * 4
    # To the floor and below it: the floor itself, exactly.
    down = rewind(EXACT.codebook, state, torch.zeros_like(low), generator(3), floor)
    torch.testing.assert_close(down.z, floor.z)
    torch.testing.assert_close(down.snr, floor.snr)
    assert (down.known == UNKNOWN).all()


@pytest.mark.parametrize("choice", [AtRandom(), LeastConfident()])
def test_a_choice_keeps_to_its_generator_and_only_chance_ignores_confidence(choice):
    assert isinstance(choice, Choice)
    confidence = torch.rand(5, 4, generator=generator(0), dtype=torch.float64)
    keys = choice.order(confidence, generator(1))
    assert torch.equal(keys, choice.order(confidence, generator(1)))
    assert torch.equal(keys, confidence) == isinstance(choice, LeastConfident)


@pytest.mark.parametrize("redraw", [OneByOne(), Together()])
def test_a_round_brings_tokens_back_to_where_they_were_for_the_calls_it_says(redraw):
    assert isinstance(redraw, Redraw)
    state = start(CHAIN.codebook, 40, 4)
    policy = Corrected(Follow(Diffusion(Uniform(8.0))), share=0.5, snr=0.5, redraw=redraw)
    steps = list(localize(CHAIN, state, policy, Ancestral(), 4, generator(0)))
    calls = 2 if redraw == OneByOne() else 1
    # Four steps of the path, the final decision, and a round of two tokens after each.
    assert len(steps) == 5 * (1 + calls)
    assert [step.index for step in steps] == list(range(len(steps)))
    for n in range(0, len(steps), 1 + calls):
        before, rises = steps[n], steps[n + 1 : n + 1 + calls]
        torch.testing.assert_close(rises[-1].state.snr, before.state.snr)
        taken = sum(step.dsnr for step in rises) > 0
        assert (taken.sum(-1) == 2).all()
        assert all(((step.dsnr > 0).sum(-1) == 2 // calls).all() for step in rises)
        kept = ~taken
        assert torch.equal(rises[-1].state.z[kept], before.state.z[kept])


def test_the_least_confident_are_taken_back_and_least_of_all_at_random():
    state = start(CHAIN.codebook, 40, 4)
    policy = Corrected(Follow(Diffusion(Uniform(8.0))), 1, 0.5, 0.5, LeastConfident(), Together())
    steps = list(localize(CHAIN, state, policy, Ancestral(), 4, generator(0)))
    assert len(steps) == 10
    for before, after in zip(steps[:-1:2], steps[1:-1:2], strict=False):
        taken = after.dsnr > 0
        assert (taken.sum(-1) == 2).all()
        confidence = before.posterior.confidence
        highest = confidence.masked_fill(~taken, -math.inf).amax(-1)
        assert (highest <= confidence.masked_fill(taken, math.inf).amin(-1)).all()


def test_the_confidence_of_a_decided_token_is_the_probability_it_was_drawn_with():
    # Two of four tokens are decided per step; the round takes back the one that was least likely.
    state = start(CHAIN.codebook, 60, 4)
    policy = Corrected(Follow(Masked()), rounds=1, share=0.01, choice=LeastConfident())
    first, second = list(localize(CHAIN, state, policy, Ancestral(), 2, generator(0)))[:2]
    drawn = first.posterior.log_prob(first.state.known.clamp(min=0))
    drawn = drawn.masked_fill(~first.state.is_known, math.inf)
    assert torch.equal(second.dsnr.isinf().long().argmax(-1), drawn.argmin(-1))
    assert not torch.equal(drawn.argmin(-1), first.posterior.confidence.argmin(-1))
