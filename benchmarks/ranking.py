"""How often the right answer to a blank is ranked first, by each way of scoring answers.

A span in the middle of held-out texts is blanked. Several answers are drawn from left to right and
ranked together with the right one: by the likelihood of the blanks given the rest or of the whole
text, both from left to right, and by that of a sampler that picks one of four orders. Answers equal
to the right one count as right. ± is one standard error over texts.

    python benchmarks/ranking.py RUN [--texts 48] [--length 64] [--blanks 5] [--draws 12]
    python benchmarks/ranking.py --smoke
"""

import argparse
import math
from collections.abc import Callable

import torch
from smoke import small_run
from torch import Tensor

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    Denoiser,
    Follow,
    in_order,
    left_to_right,
    sample,
    start,
)
from stochloc.data import held_out_windows
from stochloc.tasks.own_text import own_text
from stochloc.tasks.runs import Run, open_run

NUM_ORDERS = 4
Nats = Callable[[Tensor], Tensor]


def scorings(denoiser: Denoiser, known: Tensor) -> dict[str, Nats]:
    """Return the cost of a filling of every text, by the name of the way."""
    length, generator = known.shape[1], torch.Generator().manual_seed(1)
    ways = [torch.arange(length), torch.arange(length).flip(0)]
    ways += [torch.randperm(length, generator=generator) for _ in range(NUM_ORDERS - len(ways))]

    def by_orders(texts: Tensor) -> Tensor:
        nats = [in_order(denoiser, texts, way.expand_as(texts), known).values for way in ways]
        return math.log(NUM_ORDERS) - torch.stack(nats).neg().logsumexp(0)

    return {
        "blanks given the rest": lambda texts: left_to_right(denoiser, texts, known).values,
        "whole text": lambda texts: left_to_right(denoiser, texts).values,
        f"{NUM_ORDERS} orders of the blanks": by_orders,
    }


def measure(run: Run, options: argparse.Namespace) -> None:
    """Print the table for a model."""
    length = min(options.length, run.length)
    texts = held_out_windows(own_text(run).valid, length, options.texts)
    begin = (length - options.blanks) // 2
    known = texts.clone()
    known[:, begin : begin + options.blanks] = UNKNOWN
    denoiser, generator = run.denoiser_for(length), torch.Generator().manual_seed(0)
    given = known.repeat_interleave(options.draws, 0)
    state = start(denoiser.codebook, *given.shape, known=given)
    walk = Follow(Autoregressive())
    drawn = sample(denoiser, state, walk, Ancestral(), options.blanks, generator).tokens
    answers = torch.cat([texts[:, None], drawn.view(len(texts), -1, length)], 1)
    is_right = (answers == texts[:, None]).all(-1)
    print("| ranked by | right one first | wrong ones before it |\n|---|---|---|")
    for name, nats in scorings(denoiser, known).items():
        costs = torch.stack([nats(answer) for answer in answers.unbind(1)], 1)
        before = ((costs < costs[:, :1]) & ~is_right).double().sum(1)
        cells = (mean_of(before == 0), mean_of(before))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def mean_of(values: Tensor) -> str:
    """Return a mean over texts with its standard error."""
    values = values.double()
    return f"{values.mean():.3f} ± {values.std() / math.sqrt(len(values)):.3f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("--texts", type=int, default=48)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--blanks", type=int, default=5)
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument(
        "--smoke", action="store_true", help="measure a small model trained on the spot"
    )
    options = parser.parse_args()
    if options.smoke:
        options.texts, options.draws = 2, 2
        with small_run() as folder:
            measure(open_run(folder), options)
    elif options.run is None:
        parser.error("give the folder of a run, or --smoke")
    else:
        measure(open_run(options.run), options)


if __name__ == "__main__":
    main()
