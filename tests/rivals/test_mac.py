"""MAC learns from what is asked when sets are scored in natural order."""

import itertools
from collections import Counter, defaultdict

import torch
from rivals.oracles import MaskOracle
from rivals.worlds import LENGTH, VOCABULARY, assert_estimates, every_sequence, generator
from scipy.stats import chi2

from stochloc.rivals.mac import Mac, draw_shown

DRAWS = 20_000


def exact_law() -> dict[tuple[bool, ...], float]:
    """The chance of being shown, of every set of tokens, counted over sets and their parts."""
    law: dict[tuple[bool, ...], float] = defaultdict(float)
    for size in range(1, LENGTH + 1):
        sets = list(itertools.combinations(range(LENGTH), size))
        for chosen, num_shown in itertools.product(sets, range(size)):
            shown = chosen[:num_shown]
            place = tuple(i in shown for i in range(LENGTH))
            law[place] += (1 + num_shown) / (len(sets) * size)
    total = sum(law.values())
    return {place: weight / total for place, weight in law.items()}


def test_the_first_tokens_of_random_sets_are_shown_more_of_them_more_often():
    drawn = draw_shown(DRAWS, LENGTH, generator(1))
    counts = Counter(tuple(row) for row in drawn.tolist())
    law = exact_law()
    assert counts.keys() <= law.keys()
    statistic = sum((counts[s] - DRAWS * p) ** 2 / (DRAWS * p) for s, p in law.items())
    assert chi2.sf(statistic, len(law) - 1) > 1e-6, f"chi-squared {statistic:.0f}"


def test_the_loss_is_the_mean_over_hidden_tokens_of_what_the_shown_ones_leave_open():
    method = Mac(MaskOracle(), VOCABULARY)
    tokens = every_sequence()[[3, 14]]
    expected = 0.0
    for shown, probability in exact_law().items():
        is_hidden = ~torch.tensor(shown).expand(2, -1)
        nats = method.masked_nats(tokens, is_hidden).sum(1) / is_hidden.sum(1)
        expected += probability * float(nats.mean())
    losses = [float(method.loss(tokens.repeat(50, 1), generator(seed))) for seed in range(40)]
    assert_estimates(torch.tensor(losses, dtype=torch.float64), expected)
