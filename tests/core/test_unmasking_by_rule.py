"""Walks that unmask by a rule have one way to each text, so their bound is their likelihood."""

import pytest
import torch
from core.worlds import (
    ADAPTIVE,
    BOUNDED,
    CORRECTED,
    PATHS,
    TRANSITIONS,
    Incoherent,
    OneSided,
    every_text,
    generator,
    unmasks_by_rule,
)

from stochloc.core import (
    CERTAINTIES,
    Ancestral,
    Autoregressive,
    Block,
    Custom,
    Decode,
    Denoiser,
    Diffusion,
    Estimate,
    Follow,
    Masked,
    Policy,
    Reveal,
    RevealAbove,
    RevealApart,
    SimplexCodebook,
    Tempered,
    advance,
    bound,
    line_integral,
    sample,
    start,
)

# Conditionals of no joint distribution: nothing here holds because a posterior is a true one.
TEXTS = every_text(3, 4)
INCOHERENT = Incoherent(SimplexCodebook(3), 4, 1.0)
RULES: dict[str, Policy] = {
    **{f"by {name}": Reveal(measure()) for name, measure in CERTAINTIES.items()},
    "above a threshold": RevealAbove(0.6),
    "most confident, apart": RevealApart(),
    "left to right": Follow(Autoregressive()),
    "in an order": Follow(Autoregressive((2, 0, 3, 1))),
    "all at once": Follow(Decode()),
    "blocks in an order": Follow(Block(2, Autoregressive((1, 0)))),
    "one half, then the rest from left to right": Follow(
        Custom(torch.tensor([[0.0] * 4, [0.0, torch.inf] * 2])).then(Autoregressive())
    ),
    "a grid of 0 and infinity": Follow(Custom(torch.tensor([[0.0] * 4, [0.0, torch.inf] * 2]))),
}
DRAWN: dict[str, Policy] = {
    "masked": Follow(Masked()),
    "blocks at random": Follow(Block(2, Masked())),
    "diffusion": Follow(Diffusion()),
    "a grid with a finite SNR": Follow(Custom(torch.tensor([0.0, 1.0, torch.inf]))),
}


def likelihood(policy: Policy, steps: int, denoiser: Denoiser = INCOHERENT) -> Estimate:
    return bound(denoiser, TEXTS, policy, Ancestral(), steps, generator(0))


@pytest.mark.parametrize("steps", [2, 3, 4])
@pytest.mark.parametrize("name", RULES)
def test_the_bound_of_a_rule_is_a_distribution_over_all_texts(name, steps):
    for denoiser in (INCOHERENT, Tempered(OneSided(INCOHERENT), 0.7)):
        exact = likelihood(RULES[name], steps, denoiser)
        assert exact.is_exact
        assert float((-exact.values).exp().sum()) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("name", RULES)
def test_the_bound_of_a_rule_has_no_randomness_in_it(name, transition):
    step = TRANSITIONS[transition]
    values = [bound(INCOHERENT, TEXTS, RULES[name], step, 2, generator(s)).values for s in (0, 1)]
    assert torch.equal(*values)


@pytest.mark.parametrize("name", RULES)
def test_texts_are_drawn_as_often_as_the_bound_of_the_rule_says(name):
    """χ² of 81 texts, rare ones together: at most 80 degrees of freedom, above 165 once in 1e7.

    Power: for 40,000 texts, a bound that is 0.1 nats too high for one half of them and as much too
    low for the other gives a χ² of 400 more on average.
    """
    num, policy = 40_000, RULES[name]
    begin = start(INCOHERENT.codebook, num, 4)
    drawn = sample(INCOHERENT, begin, policy, Ancestral(), 2, generator(1)).tokens
    counts = torch.bincount(drawn @ torch.tensor([27, 9, 3, 1]), minlength=81).double()
    expected = num * (-likelihood(policy, 2).values).exp()
    rare = expected < 8
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]]).clamp(min=1e-6)
    assert float(((counts - expected).square() / expected).sum()) < 165


@pytest.mark.parametrize("name", DRAWN)
def test_a_walk_with_something_to_draw_is_not_called_exact(name):
    policy = DRAWN[name]
    estimates = [bound(INCOHERENT, TEXTS, policy, Ancestral(), 3, generator(s)) for s in (0, 1)]
    assert not estimates[0].is_exact
    assert not torch.equal(*[estimate.values for estimate in estimates])


@pytest.mark.parametrize("name", [*PATHS, *ADAPTIVE])
def test_whoever_says_that_it_unmasks_by_a_rule_gives_a_distribution(name):
    policy = Follow(PATHS[name]) if name in PATHS else ADAPTIVE[name]
    if name in CORRECTED:
        begin = start(INCOHERENT.codebook, 1, 4)
        assert not policy.start(begin, 3, generator(0)).unmasks_by_rule
        return
    walked = likelihood(policy, 3)
    total = float((-walked.values).exp().sum())
    assert not walked.is_exact or total == pytest.approx(1, abs=1e-10)


def steps_taken(policy: Policy, num_steps: int, seed: int) -> torch.Tensor | None:
    """Return all steps of guided walks to each text; None if a token was or may be taken back."""
    state = start(INCOHERENT.codebook, *TEXTS.shape)
    pace, taken = policy.start(state, num_steps, generator(seed)), []
    if not (pace.lower is pace.revise is pace.rounds is None):
        return None
    for n in range(pace.num_steps + 1):
        taken.append(pace.ask(n, INCOHERENT, state).dsnr)
        state = advance(INCOHERENT.codebook, state, TEXTS, taken[-1], generator(seed))
    return torch.stack(taken)


@pytest.mark.parametrize("name", [*PATHS, *BOUNDED])
def test_whoever_only_reveals_tokens_and_draws_nothing_says_so(name):
    # Eight random orders of four tokens in three steps are all the same once in 6^7 at most.
    policy = Follow(PATHS[name]) if name in PATHS else BOUNDED[name]
    walks = [steps_taken(policy, 3, seed) for seed in range(8)]
    if any(walk is None for walk in walks):
        assert not unmasks_by_rule(policy)
        return
    only_reveals = all(bool(((walk == 0) | walk.isinf()).all()) for walk in walks)
    draws_nothing = all(torch.equal(walk, walks[0]) for walk in walks)
    assert unmasks_by_rule(policy) == (only_reveals and draws_nothing)


def test_a_line_integral_is_an_estimate_and_a_part_that_is_not_exact_makes_the_whole_so():
    exact = likelihood(Reveal(), 2)
    drawn = line_integral(INCOHERENT, TEXTS, Autoregressive(), 2, generator(0))
    assert not drawn.is_exact
    assert Estimate.join([exact, exact]).is_exact
    assert not Estimate.join([exact, drawn]).is_exact
