"""Evaluation times concentrated near 0: finite variance where uniform times have none.

The second moment of the integrand at a given time is a finite sum over all noise, so it is computed
exactly; its growth as u goes to 0 decides whether the variance is finite.
"""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from methods.oracles import LOG_VOCABULARY, MaskOracle, RatioOracle, WeightedMaskOracle
from methods.worlds import LENGTH, VOCABULARY, every_sequence, frame, generator, true_log_probs
from torch import Tensor

from stochloc.methods import METHODS
from stochloc.methods.generalized_md4 import GeneralizedMd4
from stochloc.methods.kernels import uniform
from stochloc.methods.md4 import Md4
from stochloc.methods.mdlm import Mdlm
from stochloc.methods.schedules import Cosine, Linear, revealing_rate
from stochloc.methods.sedd import FLOOR, Sedd, SeddAbsorbing
from stochloc.methods.time_integral import TimeIntegral

TOKENS = torch.tensor([[0, 2, 1]])
MASKS = torch.tensor(list(itertools.product((False, True), repeat=LENGTH)))
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])
Moment = Callable[[TimeIntegral, Tensor], Tensor]


def of_masks(nats: Tensor, hidden: Tensor) -> Tensor:
    """`E[(Σ nats)²]` over masks; `nats` `(8, L)`, probabilities of masks `(L,)`."""
    chance = torch.where(MASKS, hidden, 1 - hidden).prod(-1)
    return (chance * nats.double().sum(-1).square()).sum()


def masked(method: TimeIntegral, time: Tensor) -> Tensor:
    assert isinstance(method, Mdlm | Md4)
    rows, times = TOKENS.expand(len(MASKS), -1), time.expand(len(MASKS))
    nats = method.masked_nats(rows, MASKS, times).double() * revealing_rate(method.schedule, time)
    return of_masks(nats, (1 - method.schedule.alpha(time)).expand(LENGTH))


def weighted(method: TimeIntegral, time: Tensor) -> Tensor:
    assert isinstance(method, GeneralizedMd4)
    rows, times = TOKENS.expand(len(MASKS), -1), time.expand(len(MASKS))
    nats = method.divergence_nats(rows, MASKS, times).detach()
    return of_masks(nats, time ** WEIGHTS.double()[TOKENS[0]])


def entropy(method: TimeIntegral, time: Tensor) -> Tensor:
    assert isinstance(method, Sedd)
    alpha, states = method.schedule.alpha(time), method.kernel.num_states
    noisy = torch.tensor(list(itertools.product(range(states), repeat=LENGTH)))
    rows, times = TOKENS.expand(len(noisy), -1), time.expand(len(noisy))
    chance = (1 - alpha) * method.kernel.stationary[noisy] + alpha * (noisy == rows)
    nats = method.entropy_nats(rows, noisy, times)
    possible = chance.prod(-1) > 0
    return (chance.prod(-1) * nats.sum(-1).square())[possible].sum()


def learned() -> GeneralizedMd4:
    method = GeneralizedMd4(WeightedMaskOracle(WEIGHTS), VOCABULARY)
    method.log_weights.data = WEIGHTS.log()
    return method


CASES: dict[str, tuple[Callable[[], TimeIntegral], Moment]] = {
    "mdlm": (lambda: Mdlm(MaskOracle(), VOCABULARY), masked),
    "md4-cosine": (lambda: Md4(MaskOracle(), VOCABULARY, Cosine()), masked),
    "genmd4": (learned, weighted),
    "sedd-absorbing": (lambda: SeddAbsorbing(MaskOracle(LOG_VOCABULARY), VOCABULARY), entropy),
    "sedd-uniform": (
        lambda: Sedd(
            RatioOracle(uniform(VOCABULARY), Linear(FLOOR)),
            VOCABULARY, uniform(VOCABULARY), Linear(FLOOR),
        ),
        entropy,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_second_moment_is_finite_at_the_chosen_times_and_infinite_at_uniform_ones(name):
    method, moment = CASES[name][0](), CASES[name][1]
    power = float(method.time_exponents(TOKENS))
    chosen, uniform_times = [], []
    for u in (1e-2, 1e-3, 1e-4):
        time = torch.tensor(u ** (1 / power), dtype=torch.float64)
        weight = float(time) ** (1 - power) / power
        chosen.append(weight**2 * float(moment(method, time)))
        uniform_times.append(float(moment(method, torch.tensor(u**2, dtype=torch.float64))))
    # Score entropy with uniform noise also grows with the square of a logarithm.
    logarithms = [math.log(1 / u) ** 2 for u in (1e-2, 1e-3, 1e-4)]
    growth = [value / log for value, log in zip(chosen, logarithms, strict=True)]
    assert max(growth) < 1.5 * growth[0], chosen
    # In a uniform time t it grows as 1/t or faster, whose integral is infinite.
    assert all(later > 90 * earlier for earlier, later in itertools.pairwise(uniform_times)), (
        uniform_times
    )


def test_the_bound_of_the_exact_network_is_unbiased_and_varies_less_than_at_uniform_times():
    # 20,000 estimates of one sequence: their mean lies within 4.9 standard errors of -log P.
    method = Mdlm(MaskOracle(), VOCABULARY)
    rows, row = TOKENS.expand(20_000, -1), int((TOKENS[0] * torch.tensor([9, 3, 1])).sum())
    assert every_sequence()[row].tolist() == TOKENS[0].tolist()
    values = method.bound(rows, 4, generator(1)).values
    exact, deviation = -float(true_log_probs()[row]), float(values.std())
    assert abs(float(values.mean()) - exact) < 4.9 * deviation / math.sqrt(len(rows))
    method.time_exponents = lambda tokens: torch.ones(len(tokens), dtype=torch.float64)
    # Uniform times have no finite variance, so the spread of any sample is larger.
    assert float(method.bound(rows, 4, generator(1)).values.std()) > 1.5 * deviation


def test_the_time_exponent_is_half_the_smallest_weight_of_each_sequence_and_at_most_one():
    method = learned()
    tokens = torch.tensor([[0, 1, 2], [1, 2, 1], [2, 2, 2]])
    torch.testing.assert_close(
        method.time_exponents(tokens), torch.tensor([0.25, 0.5, 1.0]).double()
    )
    ardm = METHODS["ardm"](frame())
    assert isinstance(ardm, TimeIntegral)
    assert bool((ardm.time_exponents(tokens) == 1).all())


def test_times_of_training_begin_where_the_authors_do():
    begins = {"mdlm": 1e-3, "md4": 1e-4, "genmd4": 1e-3, "sedd-absorbing": 1e-3, "ardm": 0.0}
    tokens = torch.zeros(1000, LENGTH, dtype=torch.long)
    for name, earliest in begins.items():
        method = METHODS[name](frame())
        assert isinstance(method, TimeIntegral)
        times = method.training_times(tokens, generator(3)).sort().values
        strata = earliest + (1 - earliest) * torch.arange(1001).double() / 1000
        assert bool((times >= strata[:-1]).all())
        assert bool((times < strata[1:]).all())
