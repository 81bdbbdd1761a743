"""Bounds and samples of every walk at equal numbers of steps: `python benchmarks/walks.py RUN`.

With `--smoke` in place of a run, a small model is trained and measured.

For each walk: the finite-step bound on held-out windows in bits per character; the cross-entropy of
samples under an n-gram model of the held-out text, and the entropy of characters within a sample,
all with standard errors; and the cost in denoiser calls and in processor time relative to a plain
walk with as many steps. All walks see the same windows, so the table also has the difference of
each bound from that of the first walk with as many steps, and its own standard error. Prints
Markdown.
"""

import json
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from smoke import small_run

from stochloc.core import (
    Ancestral,
    Confidence,
    Curvature,
    Decode,
    Denoiser,
    Diffusion,
    Estimate,
    Euler,
    FiniteDifference,
    Follow,
    Geometric,
    JacobianProduct,
    Linearised,
    Lomax,
    Masked,
    Policy,
    Reveal,
    RevealApart,
    Spread,
    StepCosts,
    Sweep,
    Tolerance,
    Transition,
    Uniform,
    bound,
    measure_step_costs,
    sample,
    start,
)
from stochloc.data import BitsPerToken, held_out_windows
from stochloc.tasks.compare.judge import ORDER, Judge
from stochloc.tasks.own_text import own_text
from stochloc.tasks.runs import open_run
from stochloc.tasks.tune import KNOWN_SHARES, SNR_LEVELS
from stochloc.tasks.tuned import ORDER as ORDER_OF_GROUPS
from stochloc.tasks.tuned import PATH_SHARES

BATCH = 64
# The controller is given a tolerance instead of a number of steps: this one divided by it.
TOLERANCE = 1.6


@dataclass(frozen=True)
class Walk:
    """One row of the table."""

    name: str
    policy: Policy
    transition: Transition
    denoiser: Denoiser
    num_steps: int


@dataclass
class Options:
    """Compare walks of a trained model."""

    run: Annotated[str, tyro.conf.Positional] = ""
    """Folder of the run."""
    steps: tuple[int, ...] = (8, 16, 32, 64)
    """Numbers of steps."""
    windows: int = 96
    """Held-out windows per bound."""
    samples: int = 96
    """Samples per walk; 0 for none."""
    tuning: int = 48
    """Training windows on which the path is tuned."""
    only: tuple[str, ...] = ()
    """Names of the walks to measure, as the table has them; all when empty."""
    seed: int = 0
    """Seed of everything."""
    out: Path | None = None
    """Where to write the figures as JSON."""
    smoke: bool = False
    """Train a small model and measure a little, to check that everything runs."""


def walks(model: Denoiser, costs: StepCosts, num_steps: int) -> list[Walk]:
    """Return the walks to compare at one number of steps."""
    remembering = Linearised(model)
    product, difference = JacobianProduct(remembering), FiniteDifference()
    only_rising = StepCosts(
        costs.known[:1],
        costs.snr,
        costs.decide[:1].sum(-1, keepdim=True),
        costs.rise[:1].sum(-1, keepdim=True),
    )
    spacings = {
        "default": Diffusion(Lomax()),
        "uniform to 8": Diffusion(Uniform(8.0)).then(Decode(), 1 / num_steps),
        "geometric to 8": Diffusion(Geometric(8.0)).then(Decode(), 1 / num_steps),
        "Lomax, scale 4": Diffusion(Lomax(scale=4.0)),
        "Lomax, cut at 8": Diffusion(Lomax(snr_max=8.0)).then(Decode(), 1 / num_steps),
    }
    rows = [("diffusion, Euler", Follow(spacings["default"]), Euler(), model)]
    rows += [
        (f"diffusion, {name}, ancestral", Follow(path), Ancestral(), model)
        for name, path in spacings.items()
    ]
    rows += [
        ("curvature, δ = 0.01 (paper)", Curvature(product), Euler(), remembering),
        ("curvature, δ = 0.3", Curvature(product, 0.3), Ancestral(), remembering),
        ("curvature by difference, δ = 0.3", Curvature(difference, 0.3), Ancestral(), model),
        ("error controller", Tolerance(TOLERANCE / num_steps), Ancestral(), model),
        ("tuned diffusion", Follow(only_rising.best_path(num_steps)), Ancestral(), model),
        ("tuned path", Follow(costs.best_path(num_steps, ORDER_OF_GROUPS)), Ancestral(), model),
        ("masked, random order", Follow(Masked()), Ancestral(), model),
        ("masked, spread groups", Follow(Spread()), Ancestral(), model),
        ("masked, swept", Follow(Sweep()), Ancestral(), model),
        ("masked, most confident first", Reveal(Confidence()), Ancestral(), model),
        ("masked, most confident apart", RevealApart(Confidence()), Ancestral(), model),
    ]  # fmt: skip
    most = 8 * num_steps
    return [
        Walk(name, policy, transition, denoiser, most if "controller" in name else num_steps)
        for name, policy, transition, denoiser in rows
    ]


def chosen(found: list[Walk], names: tuple[str, ...]) -> list[Walk]:
    """Return the walks of given names, all if none is given."""
    unknown = set(names) - {walk.name for walk in found}
    if unknown:
        sys.exit(f"there is no walk {sorted(unknown)[0]!r}")
    return [walk for walk in found if not names or walk.name in names]


def bound_of(walk: Walk, windows: torch.Tensor, seed: int) -> Estimate:
    """Return the bound of a walk on held-out windows."""
    generator = torch.Generator().manual_seed(seed)
    return Estimate.join(
        [
            bound(walk.denoiser, rows, walk.policy, walk.transition, walk.num_steps, generator)
            for rows in windows.split(BATCH)
        ]
    )


def show(figure: BitsPerToken) -> str:
    """Return a figure with its standard error."""
    return f"{figure.mean:.3f} ± {figure.stderr:.3f}"


def main(options: Options) -> None:
    """Measure and print."""
    if options.smoke:
        with small_run() as folder:
            measure(replace(options, run=folder, steps=(8,), windows=2, samples=2, tuning=2))
    elif not options.run:
        sys.exit("give the folder of a run, or --smoke")
    else:
        measure(options)


def measure(options: Options) -> None:
    """Print the table for a model."""
    run = open_run(options.run)
    corpus = own_text(run)
    held_out = corpus.test if len(corpus.test) else corpus.valid
    per_token = 1 / (run.length * math.log(2))
    windows = held_out_windows(held_out, run.length, options.windows)
    judge = Judge.of(held_out, run.tokenizer.vocabulary_size)
    known = torch.arange(KNOWN_SHARES).double() / KNOWN_SHARES
    tuning = held_out_windows(corpus.valid, run.length, options.tuning)
    generator = torch.Generator().manual_seed(options.seed)
    print(f"tuning on {options.tuning} validation windows", file=sys.stderr, flush=True)
    costs = measure_step_costs(
        run.model,
        tuning,
        Ancestral(),
        known,
        torch.tensor(SNR_LEVELS).double(),
        generator,
        order=ORDER_OF_GROUPS,
    ).refined(PATH_SHARES)
    own = judge.score(windows)
    print(f"Judge: {ORDER}-gram model fitted to the held-out text, whose cross-entropy under it is "
          f"{show(own.judged)} bits and whose entropy within windows is "
          f"{show(own.entropy)}.\n")  # fmt: skip
    print("| walk | N | calls | bound | from the first | judge | entropy | time |")
    print("|---|---|---|---|---|---|---|---|")
    results = []
    for num_steps in options.steps:
        plain_s, first = math.nan, None
        for walk in chosen(walks(run.model, costs, num_steps), options.only):
            estimate = bound_of(walk, windows, options.seed)
            bits = BitsPerToken(estimate.mean * per_token, estimate.stderr * per_token)
            first = estimate if first is None else first
            apart = per_token * (estimate.values - first.values).double()
            apart_stderr = float(apart.std()) / math.sqrt(len(apart))
            row = {
                "walk": walk.name, "steps": num_steps, "calls": estimate.denoiser_calls,
                "bound": bits.mean, "bound_stderr": bits.stderr,
                "from_first": float(apart.mean()), "from_first_stderr": apart_stderr,
            }  # fmt: skip
            difference = f"{row['from_first']:+.3f} ± {apart_stderr:.3f}"
            cells = [walk.name, str(num_steps), str(row["calls"]), show(bits), difference]
            if options.samples:
                generator = torch.Generator().manual_seed(options.seed)
                state = start(run.model.codebook, options.samples, run.length)
                begun_s = time.process_time()
                drawn = sample(
                    walk.denoiser, state, walk.policy, walk.transition, walk.num_steps, generator
                )
                row["seconds"] = time.process_time() - begun_s
                score = judge.score(drawn.tokens)
                judged, entropy = score.judged, score.entropy
                row |= {"judge": judged.mean, "judge_stderr": judged.stderr}
                row |= {"entropy": entropy.mean, "entropy_stderr": entropy.stderr}
                plain_s = row["seconds"] if math.isnan(plain_s) else plain_s
                row["time"] = row["seconds"] / plain_s
                cells += [show(judged), show(entropy), f"{row['time']:.2f}"]
            results.append(row)
            print("| " + " | ".join(cells) + " |", flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options, config=(tyro.conf.OmitArgPrefixes,)))
