"""A first look: train a small model on the built-in text, and show what it can do."""

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stochloc.core import Ancestral, Autoregressive
from stochloc.data import Corpus, NgramModel, held_out_windows
from stochloc.tasks.correct.correct import correct
from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.evaluate import Evaluation, evaluate
from stochloc.tasks.generate import generate
from stochloc.tasks.hardware import Hardware
from stochloc.tasks.infill.fill import Infilling, infill
from stochloc.tasks.runs import Run, open_run
from stochloc.tasks.train import resume_run, start_run
from stochloc.tasks.walks import Walk, WalkSettings

NUM_UPDATES = 500
LEFT_TO_RIGHT = "autoregressive"
PATHS = ("masked", LEFT_TO_RIGHT, "diffusion")
INTEGRAL_SAMPLES = 16
SEQUENCES = 64
NUM_SAMPLES = 4
TEMPERATURE = 0.8
TEMPLATE = "the word of the ____ came unto me saying"
CORRUPTED = "and the lord spzke unto moses and tje children of israel"


def quickstart(folder: Path, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Train `tiny` on the built-in corpus, then bound, compare, sample, infill and correct.

    Args:
        folder: The run's folder; a run that is already there is continued or shown again.
        seed: Seed of everything random.
        say: Prints a line.

    Returns:
        All figures and texts as JSON values.

    Raises:
        ValueError: The folder contains something else.
    """
    started_s = time.monotonic()
    choice = DataChoice("builtin")
    changes = {"num_steps": NUM_UPDATES, "seed": seed}
    if (folder / "recipe.json").exists():
        resume_run(folder, changes, {"accelerator": "cpu"}, say)
    else:
        start_run(folder, choice, None, "tiny", changes, Hardware(accelerator="cpu"))
    run = open_run(folder)
    corpus = choice.load_text(run.tokenizer)
    say(f"\nHeld-out bits per character of {corpus.source}, lower is better:\n")
    bounds = [_bound(run, corpus, path, seed, say) for path in PATHS]
    baselines = [_baseline(run, corpus, order, say) for order in (1, 3)]
    walk = Walk(Autoregressive(), Ancestral(), run.length, TEMPERATURE)
    texts = generate(run, NUM_SAMPLES, run.length, walk, seed=seed).samples
    say(f"\nFour samples, from left to right at temperature {TEMPERATURE}:\n")
    for text in texts:
        say(f"  {text}\n")
    infilled = infill(run, TEMPLATE, Infilling(NUM_SAMPLES, seed=seed))
    say(f"{TEMPLATE}, filled in, with nats of the whole text:\n")
    for answer in infilled.answers:
        say(f"  {answer.nats:6.2f}  {answer.text}")
    corrected = correct(run, CORRUPTED)
    say(f"\n{CORRUPTED}, corrected:\n\n  {corrected.text}")
    say(f"\nEverything is in {folder}. Continue with:")
    say("  " + shlex.join(("stochloc", "sample", str(folder), "--prompt", "and he said")))
    return {
        "run": str(folder),
        "corpus": corpus.source,
        "bounds": bounds,
        "baselines": baselines,
        "samples": texts,
        "infill": [asdict(answer) for answer in infilled.answers],
        "correction": corrected.to_dict(),
        "seconds": time.monotonic() - started_s,
    }


def _bound(
    run: Run, corpus: Corpus, path: str, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    is_exact = path == LEFT_TO_RIGHT
    # From left to right one call gives the exact likelihood; elsewhere an integral bounds it.
    steps = run.length if is_exact else INTEGRAL_SAMPLES
    walk = WalkSettings(path, num_steps=steps)
    result = evaluate(run, corpus.test, Evaluation(walk, not is_exact, SEQUENCES, seed)).to_dict()
    name = f"this model, {path} path{', exact' if is_exact else ''}"
    _say_row(name, result["bits_per_token"], result["stderr"], say)
    return result


def _baseline(run: Run, corpus: Corpus, order: int, say: Callable[[str], None]) -> dict[str, Any]:
    model = NgramModel.fit(corpus.train, order, run.tokenizer.vocabulary_size)
    windows = held_out_windows(corpus.test, run.length, SEQUENCES)
    mean, stderr = model.bits_per_token(windows.numpy())
    name = {1: "unigram", 3: "trigram"}[order]
    _say_row(f"{name} baseline", mean, stderr, say)
    return {"model": name, "bits_per_token": mean, "stderr": stderr}


def _say_row(name: str, mean: float, stderr: float, say: Callable[[str], None]) -> None:
    say(f"  {name:38s} {mean:.3f} ± {stderr:.3f}")
