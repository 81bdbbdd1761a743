"""Memory and time of an update as the vocabulary grows, each in a process of its own.

The peak is the largest resident set of the whole process, torch and the library included, after
some updates of a model of our choices: forward, backward, clipped, AdamW, running average. Text and
weights are random; time and memory do not depend on them.

    python benchmarks/vocabulary.py [--sizes 27 1000 8000 50257] [--width 256] [--depth 4]
        [--length 512] [--batch 8] [--architecture two-sided] [--updates 2] [--smoke]
"""

import argparse
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

from stochloc.nn import TWO_SIDED, Backbone, LocalizationModel
from stochloc.training.choices import OURS
from stochloc.training.ema import AveragedWeights
from stochloc.training.objective import cross_entropy
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.update import OneProcess, Updates, as_one_part
from stochloc.training.windows import SeededWindows


@dataclass(frozen=True)
class Shape:
    """What is trained: the network and its batch."""

    width: int
    depth: int
    length: int
    batch: int
    architecture: str


@dataclass(frozen=True)
class Cost:
    """What an update takes: processor time, and the peak memory of its process."""

    seconds: float
    peak_gb: float


def updates_of(shape: Shape, size: int) -> Updates:
    """Return a model with a vocabulary of a size, in training on random text."""
    backbone = Backbone(shape.width, shape.depth, heads=4)
    training = TrainingConfig(length=shape.length, batch_size=shape.batch, law=OURS.law)
    recipe = Recipe("ours", OURS.model(size, backbone), training)
    recipe = recipe.with_architecture(shape.architecture)
    torch.manual_seed(0)
    model, config = LocalizationModel(recipe.model), recipe.training
    return Updates(
        OneProcess(torch.device("cpu")),
        model,
        make_optimizer(model, config),
        AveragedWeights(model, config.ema_decay),
        config,
        SeededWindows(
            lambda rows, length, choice: torch.randint(0, size, (rows, length), generator=choice),
            config,
        ),
        as_one_part(lambda tokens, noise: cross_entropy(model, tokens, config.law, noise)),
    )


def measure(shape: Shape, size: int, num_updates: int) -> Cost:
    """Do some updates in this process, and return the fastest one's time and the peak so far."""
    torch.set_num_threads(1)
    updates, seconds = updates_of(shape, size), []
    for _ in range(num_updates):
        began = time.process_time()
        updates.update(0.1)
        seconds.append(time.process_time() - began)
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Cost(min(seconds), peak / 1e9)


def measure_apart(shape: Shape, size: int, num_updates: int) -> Cost:
    """Return what `measure` does, in a new process."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning) as pool:
        return pool.submit(measure, shape, size, num_updates).result()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[27, 1000, 8000, 50_257])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--architecture", default=TWO_SIDED)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="a small model, one update")
    options = parser.parse_args()
    shape = Shape(options.width, options.depth, options.length, options.batch, options.architecture)
    if options.smoke:
        shape, options.sizes, options.updates = Shape(8, 2, 8, 2, TWO_SIDED), [1500], 1
    print("| tokens of the vocabulary | seconds an update | peak, GB |")
    print("|---|---|---|")
    for size in options.sizes:
        cost = measure_apart(shape, size, options.updates)
        print(f"| {size:,} | {cost.seconds:.1f} | {cost.peak_gb:.2f} |", flush=True)


if __name__ == "__main__":
    main()
