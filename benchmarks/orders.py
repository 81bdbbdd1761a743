"""The best order of a few calls, among all that repeat: `python benchmarks/orders.py RUN`.

With `--smoke` in place of a run, a small model is trained and measured.

An order of period P gives place i the turn of its class, i modulo P. What a token of class c costs
depends on the classes known before, a set K, and on nothing else, so a walk in which the classes
S_1, S_2, ... are decided in turn costs

    Σ_n Σ_{c in S_n} cost(S_1 ∪ ... ∪ S_{n-1}, c).

One call for each of the sets K tells its costs of all classes. (Sets that are turned into each
other by moving along the text are one, every shift of which is measured.) With the table, the best
walk of N calls is found exactly among all P-periodic ones, by dynamic programming over sets:

    best(N, K) = min over S of  Σ_{c in S} cost(K, c) + best(N - 1, K ∪ S).

Orders are chosen on validation windows; printed is what they cost on test windows, in bits per
character, beside spread groups and a sweep with as many calls. Prints Markdown.
"""

import math
import sys
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from smoke import small_run
from torch import Tensor

from stochloc.core import UNKNOWN, Denoiser, start
from stochloc.core.paths.spread import turns_of_classes
from stochloc.data import held_out_windows
from stochloc.tasks.own_text import own_text
from stochloc.tasks.runs import open_run

# The turn of every class; costs of a class by the set that is known, whose bits are classes.
Order = tuple[int, ...]
Costs = NDArray[np.float64]


@dataclass
class Options:
    """Find the best periodic orders of a trained model."""

    run: Annotated[str, tyro.conf.Positional] = ""
    """Folder of the run."""
    calls: tuple[int, ...] = (2, 3, 4, 6, 8)
    """Numbers of calls, at most the period."""
    period: int = 8
    """P; the number of sets is 2 to the power of it."""
    windows: int = 48
    """Windows of each part, every one of them at every shift."""
    smoke: bool = False
    """Train a small model and measure a little, to check that everything runs."""


def shifted(known: int, by: int, period: int) -> int:
    """Return a set of classes moved along the text."""
    return ((known << by) | (known >> (period - by))) & ((1 << period) - 1)


@torch.no_grad()
def cost_of_classes(model: Denoiser, windows: Tensor, known: int, period: int) -> Costs:
    """Return bits per token of every class where the classes of a set are known."""
    is_in_set = torch.tensor([bool(known >> c & 1) for c in range(period)])
    total = torch.zeros(period).double()
    for shift in range(period):
        classes = (torch.arange(windows.shape[1]) + shift) % period
        given = torch.where(is_in_set[classes], windows, UNKNOWN)
        state = start(model.codebook, len(windows), windows.shape[1], given)
        nats = -model(state).log_prob(windows)
        total += torch.stack([nats[:, classes == c].double().mean() for c in range(period)])
    return (total / period / math.log(2)).numpy()


def table_of(model: Denoiser, windows: Tensor, period: int) -> Costs:
    """Return the costs of all classes for every set of known ones."""
    table = np.zeros((1 << period, period))
    for known in range(1 << period):
        if known == min(shifted(known, by, period) for by in range(period)):
            costs = cost_of_classes(model, windows, known, period)
            for by in range(period):
                table[shifted(known, by, period)] = np.roll(costs, by)
    return table


def best_order(table: Costs, calls: int) -> Order:
    """Return the cheapest order of so many calls."""
    every, period = len(table) - 1, table.shape[1]
    members = np.array([[known >> c & 1 for c in range(period)] for known in range(every + 1)])
    best, chosen = np.where(np.arange(every + 1) == every, 0.0, np.inf), []
    for _ in range(calls):
        now, choice = np.full(every + 1, np.inf), np.zeros(every + 1, int)
        for known in range(every + 1):
            sets = np.arange(every + 1)
            sets = sets[sets & known == 0]
            costs = members[sets] @ table[known] + best[known | sets]
            now[known], choice[known] = costs.min(), sets[costs.argmin()]
        best = now
        chosen.append(choice)
    turns, known = [0] * period, 0
    for turn, choice in enumerate(reversed(chosen)):
        for c in range(period):
            if choice[known] >> c & 1:
                turns[c] = turn
        known |= int(choice[known])
    return tuple(turns)


def cost_of(order: Order, table: Costs) -> float:
    """Return bits per token of an order."""
    known, total = 0, 0.0
    for turn in range(max(order) + 1):
        due = [c for c, own in enumerate(order) if own == turn]
        total += sum(float(table[known, c]) for c in due)
        known |= sum(1 << c for c in due)
    return total / len(order)


def measure(options: Options) -> None:
    """Print the table for a model."""
    run, period = open_run(options.run), options.period
    corpus = own_text(run)
    parts = [part if len(part) else corpus.valid for part in (corpus.valid, corpus.test)]
    valid, test = (
        table_of(run.model, held_out_windows(part, run.length, options.windows), period)
        for part in parts
    )
    print("| calls | best order | its cost | sweep | spread groups |")
    print("|---|---|---|---|---|")
    for calls in options.calls:
        best = best_order(valid, calls)
        named = [f"{cost_of(best, test):.3f}"]
        for turns in (range(calls), turns_of_classes(calls).tolist()):
            order = tuple(turns[c % calls] for c in range(period))
            named.append("" if period % calls else f"{cost_of(order, test):.3f}")
        print(f"| {calls} | {' '.join(map(str, best))} | {' | '.join(named)} |", flush=True)


def main(options: Options) -> None:
    """Measure and print."""
    if options.smoke:
        with small_run() as folder:
            measure(replace(options, run=folder, calls=(2, 4), period=4, windows=2))
    elif not options.run:
        sys.exit("give the folder of a run, or --smoke")
    else:
        measure(options)


if __name__ == "__main__":
    main(tyro.cli(Options, config=(tyro.conf.OmitArgPrefixes,)))
