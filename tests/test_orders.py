"""The search for the best order of a few calls, against all orders."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from stochloc.core import ExactDenoiser, Follow, SimplexCodebook, Spread, Sweep, bound
from stochloc.core.transitions import Ancestral
from stochloc.data import MarkovChain

FILE = Path(__file__).parents[1] / "benchmarks" / "orders.py"


@pytest.fixture
def orders(monkeypatch):
    monkeypatch.syspath_prepend(str(FILE.parent))
    spec = importlib.util.spec_from_file_location("orders", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "orders", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_the_order_found_is_the_cheapest_of_all_orders(orders, calls):
    for seed in range(5):
        table = np.random.default_rng(seed).random((16, 4))
        every = itertools.product(range(calls), repeat=4)
        least = min(orders.cost_of(order, table) for order in every)
        assert orders.cost_of(orders.best_order(table, calls), table) == pytest.approx(least)


def test_the_cost_of_an_order_is_that_of_the_walk(orders):
    """On all texts of six tokens, weighed by their probability, and at every shift."""
    chain = MarkovChain.random(2, torch.Generator().manual_seed(3), concentration=0.5)
    exact = ExactDenoiser(SimplexCodebook(2).double(), *chain.enumerate(6))
    texts = chain.sample(3000, 6, torch.Generator().manual_seed(1))
    table = orders.table_of(exact, texts, 2)
    walks = [
        bound(exact, texts, Follow(path), Ancestral(), 2, torch.Generator().manual_seed(seed))
        for path, seed in ((Sweep(), 0), *((Spread(), seed) for seed in range(8)))
    ]
    swept = walks[0].mean / 6 / np.log(2)
    # A sweep is the order at one of both shifts, spread groups are it at a random one.
    spread = np.mean([walk.mean for walk in walks[1:]]) / 6 / np.log(2)
    assert orders.cost_of((0, 1), table) == pytest.approx(spread, abs=0.004)
    assert swept == pytest.approx(spread, abs=0.05)
    # Nothing is known at first: classes differ by the ends of the text alone, at every shift.
    assert table[0, 0] == pytest.approx(table[0, 1])
    assert (table[3] < table[0]).all()
