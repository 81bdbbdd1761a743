"""What an update costs, plain, in parts, with activations computed again, and compiled.

Every way of computing an update trains the same model on the same windows in a process of its own,
whose memory is therefore its own too. Processes take turns, an update at a time, so that whatever
else the machine does slows all of them alike; a way's cost is the median over rounds of its
processor time divided by the plain way's in the same round, with quartiles. Memory is the largest
resident size during updates beyond that before the first; of CUDA devices, what torch allocated.

    python benchmarks/update_cost.py [--rounds 9] [--device cpu] [--precision 32-true]
        [--width 256] [--depth 8] [--batch 32] [--length 256] [--smoke]
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch

from stochloc.nn import Backbone
from stochloc.tasks.hardware import Hardware
from stochloc.training.choices import OURS
from stochloc.training.execution import PrecisionName
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.texts import Texts
from stochloc.training.trainer import Trainer

VOCABULARY = 27
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "2 parts": {"accumulate": 2},
    "8 parts": {"accumulate": 8},
    "activations again": {"checkpoint_activations": True},
    "8 parts, activations again": {"accumulate": 8, "checkpoint_activations": True},
    "compiled": {"compile": True},
    "compiled, activations again": {"compile": True, "checkpoint_activations": True},
}
SMOKE: tuple[str, ...] = ("plain", "2 parts", "activations again")


@dataclass(frozen=True)
class Size:
    """A model, a batch, and where they are."""

    width: int
    depth: int
    batch: int
    length: int
    device: str
    precision: PrecisionName

    def trainer(self, way: str, folder: Path) -> Trainer:
        """Return a run of our recipe at this size, computed in one of the ways."""
        model = OURS.model(VOCABULARY, Backbone(self.width, self.depth, max(1, self.width // 64)))
        training = TrainingConfig(self.length, self.batch, 10**6, 1e-4, law=OURS.law)
        tokens = np.random.default_rng(0).integers(0, VOCABULARY, 200_000)
        hardware = Hardware(self.device, precision=self.precision).changed(WAYS[way])
        texts = Texts(tokens, tokens, lambda model: "")
        recipe = Recipe("cost", model, training)
        return Trainer(hardware.launch(), recipe, texts, folder, hardware.execution)


def resident_bytes() -> int:
    """Return the largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def work(way: str, size: Size, folder: str, orders: Connection) -> None:
    """Do an update whenever it is ordered, and say what it took: seconds, and bytes so far."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    trainer = size.trainer(way, Path(folder))
    before = resident_bytes()
    while orders.recv():
        began = time.perf_counter() if size.device == "cuda" else time.process_time()
        loss = float(trainer.update())
        ended = time.perf_counter() if size.device == "cuda" else time.process_time()
        used = resident_bytes() - before
        if size.device == "cuda":
            used = torch.cuda.max_memory_allocated()
        orders.send((ended - began, used, loss))


def measure(
    ways: Sequence[str], size: Size, rounds: int
) -> dict[str, list[tuple[float, int, float]]]:
    """Return seconds, bytes and loss of every update of every way, the first updates left out."""
    context, results = multiprocessing.get_context("spawn"), {way: [] for way in ways}
    with TemporaryDirectory() as folder:
        pipes = {}
        for way in ways:
            pipes[way], theirs = context.Pipe()
            context.Process(target=work, args=(way, size, folder, theirs), daemon=True).start()
        # The first two updates of a way make room, compile, and look at shapes.
        for number in range(rounds + 2):
            turn = number % len(ways)
            for way in (*ways[turn:], *ways[:turn]):
                pipes[way].send(True)
                result = pipes[way].recv()
                if number >= 2:
                    results[way].append(result)
        for pipe in pipes.values():
            pipe.send(False)
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("rounds", 9), ("width", 256), ("depth", 8), ("batch", 32),
                        ("length", 256)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32-true", choices=get_args(PrecisionName))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--smoke", action="store_true", help="small models, three ways, two rounds")
    options = parser.parse_args()
    ways: Sequence[str] = options.ways
    rounds = options.rounds
    size = Size(options.width, options.depth, options.batch, options.length, options.device,
                options.precision)  # fmt: skip
    if options.smoke:
        ways, rounds, size = SMOKE, 2, Size(16, 2, 8, 16, "cpu", "32-true")
    results = measure(ways, size, rounds)
    print(f"{size}, {rounds} rounds")
    print("| way | time of an update | peak memory, MB | loss of the last update |")
    print("|---|---|---|---|")
    for way in ways:
        pairs = zip(results[way], results[ways[0]], strict=True)
        ratios = [own[0] / plain[0] for own, plain in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4)
        memory = max(used for _, used, _ in results[way]) / 2**20
        loss = results[way][-1][2]
        print(f"| {way} | {middle:.2f} ({low:.2f} to {high:.2f}) | {memory:,.0f} | {loss:.6f} |")


if __name__ == "__main__":
    main()
