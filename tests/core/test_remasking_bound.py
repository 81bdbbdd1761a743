"""The bound of remasking samplers against their exact distributions on a prior of two bits.

Walks over masked and known tokens are finite Markov chains, so the sampler's distribution and the
expected cost of the guided walk are sums over their states.
"""

import math
from collections import defaultdict
from itertools import product

import pytest
import torch
from core.worlds import full_support, generator

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Looped,
    Remasking,
    RemaskingRate,
    Rescaled,
    SimplexCodebook,
    bound,
    sample,
    start,
)

pytestmark = pytest.mark.bulk

WORLD = full_support(2, 2, SimplexCodebook(2), seed=8)
EXACT = WORLD.denoiser
STEPS = 6
Tokens = tuple[int, ...]


def log_q(tokens: Tokens) -> list[list[float]]:
    known = torch.tensor([tokens])
    return EXACT(start(EXACT.codebook, 1, 2, known)).log_probs[0].tolist()


def chain(rate: RemaskingRate, guide: Tokens | None) -> tuple[dict[Tokens, float], float]:
    """Return the probabilities of the final tokens and the mean cost; a guide fixes all draws."""
    plan, states, cost = rate.plan(STEPS), {((UNKNOWN, UNKNOWN), (False, False)): 1.0}, 0.0
    for n in range(STEPS):
        kept, after = plan.known[n] * (1 - plan.remask[n]), defaultdict(float)
        decide = (plan.known[n + 1] - kept) / (1 - plan.known[n])
        for (tokens, old), prob in states.items():
            for masked in product((False, True), repeat=2):
                remask = plan.remask[n - 1] if n else 0.0
                chance = math.prod(
                    (remask if m else 1 - remask) if o else float(not m)
                    for m, o in zip(masked, old, strict=True)
                )
                left = tuple(UNKNOWN if m else t for m, t in zip(masked, tokens, strict=True))
                if chance == 0:
                    continue
                log_probs, is_known = log_q(left), tuple(t != UNKNOWN for t in left)
                for values in product((UNKNOWN, 0, 1), repeat=2):
                    move, cost_of_move = 1.0, 0.0
                    for i, value in enumerate(values):
                        if is_known[i]:
                            move *= float(value == left[i])
                        elif value == UNKNOWN:
                            move *= 1 - decide
                        elif guide is not None:
                            move *= decide * float(value == guide[i])
                            cost_of_move -= log_probs[i][value]
                        else:
                            move *= decide * math.exp(log_probs[i][value])
                    if move > 0:
                        after[values, is_known] += prob * chance * move
                        cost += prob * chance * move * cost_of_move
        states = after
    probs: dict[Tokens, float] = defaultdict(float)
    for (tokens, _), prob in states.items():
        probs[tokens] += prob
    return probs, cost


RATES = {"none": Rescaled(0.0), "some": Rescaled(0.3), "all": Rescaled(1.0), "loop": Looped(0.1)}


@pytest.mark.parametrize("name", RATES)
def test_the_bound_is_above_minus_log_of_the_exact_probability_and_counts_every_rise(name):
    """8,000 walks of each sequence: 5 standard errors, of 0.01 to 0.03 nats."""
    probs, _ = chain(RATES[name], None)
    assert sum(probs.values()) == pytest.approx(1)
    costs = [chain(RATES[name], tuple(x))[1] for x in EXACT.sequences.tolist()]
    for x, cost in zip(EXACT.sequences.tolist(), costs, strict=True):
        assert cost >= -math.log(probs[tuple(x)]) - 1e-12
    copies = WORLD.every_sequence(8000)
    walks = bound(EXACT, copies, Remasking(RATES[name]), Ancestral(), STEPS, generator(1)).values
    walks = walks.view(4, -1)
    error = 5 * walks.std(-1) / math.sqrt(8000) + 1e-9
    assert ((walks.mean(-1) - torch.tensor(costs)).abs() < error).all()
    # The sampler has that distribution: χ² of 4 sequences, 3 degrees of freedom, above 40 in 1e-8.
    state = start(EXACT.codebook, 20_000, 2)
    drawn = sample(EXACT, state, Remasking(RATES[name]), Ancestral(), STEPS, generator(2)).tokens
    seen = (drawn[:, None] == EXACT.sequences).all(-1).sum(0).double()
    expected = 20_000 * torch.tensor([probs[tuple(x)] for x in EXACT.sequences.tolist()])
    assert float(((seen - expected).square() / expected).sum()) < 40


def test_how_loose_the_bound_of_remasking_is():
    prior = EXACT.log_prior.exp().tolist()
    bounds, divergences = [], []
    for eta in (0.0, 0.1, 0.3, 1.0):
        probs, _ = chain(Rescaled(eta), None)
        pairs = list(zip(prior, (tuple(x) for x in EXACT.sequences.tolist()), strict=True))
        bounds.append(sum(p * chain(Rescaled(eta), x)[1] for p, x in pairs))
        divergences.append(sum(p * math.log(p / probs[x]) for p, x in pairs))
    # The figures of the module's text.
    assert bounds == pytest.approx([1.194, 1.313, 1.552, 2.388], abs=1e-3)
    assert divergences == pytest.approx([0.0033, 0.0034, 0.0042, 0.0091], abs=1e-4)
    assert sum(-p * math.log(p) for p in prior) == pytest.approx(1.182, abs=1e-3)
