"""The chain rule along every order, in as few calls as two sides allow, and its deviation."""

import itertools
import math

import pytest
import torch
from core.worlds import WORLDS, Incoherent, OneSided, every_text, generator

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    ChainDeviation,
    CircleCodebook,
    Denoiser,
    Estimate,
    Follow,
    SimplexCodebook,
    Tempered,
    TwoSided,
    bound,
    chain_deviation,
    in_order,
    left_to_right,
    right_to_left,
)

EXACT = WORLDS["full support"].denoiser
TWO_SIDED: dict[str, TwoSided] = {
    **{name: world.denoiser for name, world in WORLDS.items()},
    "incoherent": Incoherent(SimplexCodebook(3), 4, 2.0),
    "incoherent, on a circle": Incoherent(CircleCodebook(2), 5, 3.0),
    "incoherent, tempered": Tempered(Incoherent(SimplexCodebook(3), 4, 2.0), 0.7),
}


def texts_of(name: str) -> torch.Tensor:
    if name in WORLDS:
        return WORLDS[name].denoiser.sequences
    return every_text(2, 5) if "circle" in name else every_text(3, 4)


def walked(denoiser: Denoiser, tokens, order, known=None) -> Estimate:
    policy, length = Follow(Autoregressive(order)), tokens.shape[1]
    return bound(denoiser, tokens, policy, Ancestral(), length, generator(0), known)


def some_known(tokens: torch.Tensor) -> torch.Tensor:
    """Up to all tokens given in advance, other ones for each sequence."""
    given = torch.rand(tokens.shape, generator=generator(1))
    return torch.where(given < torch.rand(len(tokens), 1, generator=generator(2)), tokens, UNKNOWN)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", TWO_SIDED)
def test_one_call_gives_all_conditionals_of_the_walk_in_either_direction(name, given):
    denoiser, tokens = TWO_SIDED[name], texts_of(name)
    known = some_known(tokens) if given else None
    length = tokens.shape[1]
    longest = length if known is None else int((known == UNKNOWN).sum(-1).max())
    for side, order in ((left_to_right, range(length)), (right_to_left, range(length)[::-1])):
        ours, walk = side(denoiser, tokens, known), walked(denoiser, tokens, tuple(order), known)
        torch.testing.assert_close(ours.token_nats, walk.token_nats, atol=1e-10, rtol=0)
        assert (ours.denoiser_calls, walk.denoiser_calls) == (1, longest)
        slow = side(OneSided(denoiser), tokens, known)
        torch.testing.assert_close(slow.token_nats, walk.token_nats, atol=1e-10, rtol=0)
        assert slow.denoiser_calls == longest
        assert ours.is_exact
        assert slow.is_exact


@pytest.mark.parametrize("name", WORLDS)
def test_with_the_exact_denoiser_every_order_gives_the_true_log_p(name):
    denoiser = WORLDS[name].denoiser
    tokens = denoiser.sample(30, generator(0))
    deviation = chain_deviation(denoiser, tokens, 3, generator(1))
    for along in deviation.along:
        exact = -denoiser.log_prob(tokens)
        torch.testing.assert_close(along.values, exact, atol=1e-9, rtol=0)
    assert deviation.mean < 1e-9


def test_given_tokens_on_both_sides_condition_the_exact_likelihood():
    tokens = EXACT.sequences
    known = tokens.where(torch.tensor([False, False, True]), UNKNOWN)
    prior = EXACT.log_prior.exp()
    last = torch.stack([prior[tokens[:, 2] == v].sum() for v in range(3)])
    exact = -(prior / last[tokens[:, 2]]).log()
    conditional = left_to_right(EXACT, tokens, known)
    torch.testing.assert_close(conditional.values, exact, atol=1e-10, rtol=0)
    assert (conditional.token_nats[:, 2] == 0).all()


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_every_order_is_answered_run_by_run_as_token_by_token(length):
    denoiser = Incoherent(SimplexCodebook(3), length, 2.0)
    orders = torch.tensor(list(itertools.permutations(range(length))))
    tokens = torch.randint(0, 3, orders.shape, generator=generator(0))
    for known in (None, some_known(tokens)):
        fast = in_order(denoiser, tokens, orders, known)
        slow = in_order(OneSided(denoiser), tokens, orders, known)
        torch.testing.assert_close(fast.token_nats, slow.token_nats, atol=1e-10, rtol=0)
        # The worst order turns at every token, and a call answers two.
        assert fast.denoiser_calls <= math.ceil(length / 2)


def test_a_random_order_takes_a_call_for_two_and_a_half_tokens_or_so():
    # 0.414 of a call for each token on average, with a standard deviation of 1.8 calls an order.
    denoiser = Incoherent(SimplexCodebook(2), 60, 1.0)
    order = torch.randperm(60, generator=generator(0))[None]
    tokens = torch.randint(0, 2, (1, 60), generator=generator(1))
    assert 16 <= in_order(denoiser, tokens, order).denoiser_calls <= 34


@pytest.mark.parametrize("name", ["incoherent", "incoherent, on a circle"])
def test_every_order_has_a_distribution_of_its_own(name):
    denoiser, tokens = TWO_SIDED[name], texts_of(name)
    order = torch.randperm(tokens.shape[1], generator=generator(3)).expand(tokens.shape)
    for along in (left_to_right(denoiser, tokens), in_order(denoiser, tokens, order)):
        assert float((-along.values).exp().sum()) == pytest.approx(1)


def test_the_deviation_is_the_mean_difference_between_two_orders():
    denoiser, tokens = TWO_SIDED["incoherent"], texts_of("incoherent")
    both = chain_deviation(denoiser, tokens, 0, generator(0))
    gap = left_to_right(denoiser, tokens).values - right_to_left(denoiser, tokens).values
    torch.testing.assert_close(both.values, gap.abs())
    assert both.denoiser_calls == 2
    three = chain_deviation(denoiser, tokens, 1, generator(0))
    a, b, c = (along.values for along in three.along)
    expected = ((a - b).abs() + (b - c).abs() + (c - a).abs()) / 3
    torch.testing.assert_close(three.values, expected)
    assert three.mean == pytest.approx(float(expected.mean()))
    assert three.stderr == pytest.approx(float(expected.std()) / math.sqrt(len(tokens)))
    assert three.mean > 10 * three.stderr
    halves = [chain_deviation(denoiser, part, 0, generator(0)) for part in tokens.chunk(2)]
    torch.testing.assert_close(ChainDeviation.join(halves).values, both.values)


def test_a_negative_number_of_orders_is_refused():
    with pytest.raises(ValueError, match="at least 0, not -1"):
        chain_deviation(EXACT, EXACT.sequences, -1, generator(0))


def test_no_sequences_have_no_likelihood_and_no_error():
    nothing = torch.zeros(0, 3, dtype=torch.long)
    assert left_to_right(EXACT, nothing).token_nats.shape == (0, 3)
