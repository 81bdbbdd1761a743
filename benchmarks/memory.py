"""Sampling from left to right with remembered keys and values, beside the ways there are without.

Four ways to draw the same number of texts, from random weights (time does not depend on them) and
on one thread: the two-sided network that remembers, the same asked anew at every token, the same
with drafts verified in parallel (`sample_left_to_right`), and the autoregressive rival with as many
blocks, which remembers too and has one block's parameters less: those of the join. Each round times
every way once, in rotating order; what is printed is the median over rounds of tokens a second and
of the ratio to the rival's within a round, with quartiles. How often drafts are accepted does
depend on the weights: give a run for that.

And an infilling on the masked path: an eighth of the text is blank, in its middle, and filled in
eight steps, by the model as it is, which computes the stretch of blanks, and by the same model that
is asked about the whole text anew.

    python benchmarks/memory.py [RUN] [--rounds 7] [--lengths 128 512] [--smoke]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    Codebook,
    Denoiser,
    Follow,
    Masked,
    Posterior,
    State,
    finish,
    localize,
    sample_left_to_right,
    start,
)
from stochloc.core import sample as draw_sample
from stochloc.methods import autoregressive
from stochloc.methods.method import Frame
from stochloc.nn import TWO_SIDED, LocalizationModel, ModelConfig
from stochloc.tasks.runs import open_run

VOCABULARY = 27
RIVAL = "autoregressive rival"
ANEW = "the whole text anew"
# Each draws a batch of texts and returns the calls it made.
Ways = dict[str, Callable[[torch.Generator], int]]


@dataclass(frozen=True)
class Drawn:
    """What a way of drawing took: calls for each text of a batch, and processor time."""

    calls: int
    seconds: float


def model_of(run: str | None, smoke: bool) -> LocalizationModel:
    """Return the model of a run, or one of the size of `tiny` with random output weights."""
    if run is not None:
        return open_run(run).model
    torch.manual_seed(0)
    width, depth, heads = (16, 2, 2) if smoke else (128, 4, 4)
    model = LocalizationModel(
        ModelConfig(
            VOCABULARY, width, depth, heads, rotary_base=100.0, neighbour_logit=12.0,
            architecture=TWO_SIDED,
        )
    )  # fmt: skip
    torch.nn.init.normal_(model.head, std=0.1)
    return model


def ways(model: LocalizationModel, batch: int, length: int) -> Ways:
    """Return the ways to draw a batch of texts."""
    state = start(model.codebook, batch, length)
    walk = (model, state, Follow(Autoregressive()), Ancestral(), length)
    rival = autoregressive.Autoregressive.from_frame(
        Frame(
            torch.ones(model.codebook.vocabulary_size, dtype=torch.long),
            length,
            model.config.backbone,
        )
    )

    def plainly(generator: torch.Generator) -> int:
        with torch.no_grad():
            return finish(state, localize(*walk, generator)).denoiser_calls

    return {
        RIVAL: lambda generator: rival.sample(batch, length, length, generator).denoiser_calls,
        "two-sided, remembering": lambda generator: draw_sample(*walk, generator).denoiser_calls,
        "two-sided, asked anew": plainly,
        "two-sided, drafts verified": lambda generator: (
            sample_left_to_right(model, state, generator).denoiser_calls
        ),
    }


@dataclass(frozen=True)
class Forgetful:
    """A model that keeps nothing of the text around a stretch."""

    model: LocalizationModel

    @property
    def codebook(self) -> Codebook:
        """The model's codes."""
        return self.model.codebook

    def __call__(self, state: State) -> Posterior:
        """Return the model's posterior of the whole text."""
        return self.model(state)


def infillings(model: LocalizationModel, batch: int, length: int) -> Ways:
    """Return the ways to fill an eighth of each text."""
    known = torch.zeros(batch, length, dtype=torch.long)
    known[:, length // 2 : length // 2 + max(1, length // 8)] = UNKNOWN
    state = start(model.codebook, batch, length, known)

    def fill(denoiser: Denoiser) -> Callable[[torch.Generator], int]:
        rest = (state, Follow(Masked()), Ancestral(), 8)
        return lambda generator: draw_sample(denoiser, *rest, generator).denoiser_calls

    return {ANEW: fill(Forgetful(model)), "the stretch of blanks": fill(model)}


def timed(candidates: Ways, rounds: int) -> dict[str, list[Drawn]]:
    """Time each way once a round, in rotating order, after a round that does not count."""
    names, result = list(candidates), {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            generator = torch.Generator().manual_seed(number)
            began = time.process_time()
            calls = candidates[name](generator)
            if number:
                result[name].append(Drawn(calls, time.process_time() - began))
    return result


def show(values: list[float], digits: int) -> str:
    """Return a median with its quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def lines(
    drawn: dict[str, list[Drawn]], denominator: str, length: int, batch: int
) -> Iterator[str]:
    """Yield a line for each way: calls, tokens of text a second, and the ratio of times."""
    for name, ways_drawn in drawn.items():
        pairs = zip(ways_drawn, drawn[denominator], strict=True)
        rates = [batch * length / way.seconds for way in ways_drawn]
        ratios = [way.seconds / other.seconds for way, other in pairs]
        calls = statistics.median(way.calls for way in ways_drawn)
        yield (
            f"| {length} | {batch} | {name} | {calls:g} | {show(rates, 0)} | {show(ratios, 2)} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", help="folder of a two-sided run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--smoke", action="store_true", help="a small model, two rounds")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.lengths, options.batches = 2, [12], [2]
    torch.set_num_threads(1)
    model = model_of(options.run, options.smoke)
    if model.between is None:
        parser.error("the run's network is not two-sided")

    def table(of: Callable[[LocalizationModel, int, int], Ways], column: str, over: str) -> None:
        print(f"| length | texts | {column} | calls | tokens a second | time over {over} |")
        print("|---|---|---|---|---|---|")
        for length, batch in product(options.lengths, options.batches):
            drawn = timed(of(model, batch, length), options.rounds)
            print(*lines(drawn, over, length, batch), sep="\n", flush=True)

    table(ways, "way", RIVAL)
    print()
    table(infillings, "infilling", ANEW)


if __name__ == "__main__":
    main()
