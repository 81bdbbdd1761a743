"""MAC trains the conditionals of one order, the authors' order for text8."""

import itertools
from collections import Counter, defaultdict

import pytest
import torch
from methods.oracles import MaskOracle
from methods.worlds import LENGTH, VOCABULARY, assert_estimates, every_sequence, generator
from scipy.stats import chi2

from stochloc.methods.mac import Mac, draw_shown, spaced

DRAWS = 20_000
ORDERS = {"natural": [0, 1, 2], "another": [2, 0, 1]}


def exact_probs(order: list[int]) -> dict[tuple[bool, ...], float]:
    """The probability that a set of tokens is the one shown, by enumeration of all sets."""
    probs: dict[tuple[bool, ...], float] = defaultdict(float)
    for size in range(1, LENGTH + 1):
        sets = list(itertools.combinations(range(LENGTH), size))
        for chosen, num_shown in itertools.product(sets, range(size)):
            shown = sorted(chosen, key=order.index)[:num_shown]
            place = tuple(i in shown for i in range(LENGTH))
            probs[place] += (1 + num_shown) / (len(sets) * size)
    total = sum(probs.values())
    return {place: weight / total for place, weight in probs.items()}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_the_shown_tokens_are_the_first_of_random_sets_weighted_by_their_number(order):
    drawn = draw_shown(DRAWS, torch.tensor(order), generator(1))
    counts = Counter(tuple(row) for row in drawn.tolist())
    probs = exact_probs(order)
    assert counts.keys() <= probs.keys()
    statistic = sum((counts[s] - DRAWS * p) ** 2 / (DRAWS * p) for s, p in probs.items())
    assert chi2.sf(statistic, len(probs) - 1) > 1e-6, f"chi-squared {statistic:.0f}"


def test_the_loss_is_the_mean_cross_entropy_of_hidden_tokens_given_the_shown_ones():
    method = Mac(MaskOracle(), VOCABULARY)
    tokens = every_sequence()[[3, 14]]
    expected = 0.0
    for shown, probability in exact_probs([0, 1, 2]).items():
        is_hidden = ~torch.tensor(shown).expand(2, -1)
        nats = method.masked_nats(tokens, is_hidden).sum(1) / is_hidden.sum(1)
        expected += probability * float(nats.mean())
    losses = [float(method.loss(tokens.repeat(50, 1), generator(seed))) for seed in range(40)]
    assert_estimates(torch.tensor(losses, dtype=torch.float64), expected)


@pytest.mark.parametrize("length", [128, 250])
def test_the_order_is_a_few_remainders_modulo_25_from_the_greatest_down_and_then_the_rest(length):
    first = [
        place
        for remainder in range(length // 25 - 1, 0, -1)
        for place in range(length)
        if place % 25 == remainder
    ]
    rest = [place for place in range(length) if place not in first]
    assert spaced(length).tolist() == first + rest
    assert first[:3] == [length // 25 - 1 + 25 * k for k in range(3)]


def test_the_order_of_a_text_shorter_than_two_spacings_is_left_to_right():
    assert spaced(49).tolist() == list(range(49))
