"""Does it pay to show a short text in a wide window, and to tell a network its constraints?

Short held-out texts are priced bare, and with unknown tokens around them up to the window of the
training. Then held-out lines of which it is given whether each character is a vowel, a consonant or
a space are priced by a denoiser that only rules out answers, and by `Constrained`, which is told.
Bits per character of guided walks, the same noise for all; ± is one standard error over texts.

    python benchmarks/conditioning.py RUN [--texts 96] [--lines 48]
    python benchmarks/conditioning.py --smoke
"""

import argparse
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from smoke import small_run
from torch import Tensor

from stochloc.core import (
    Ancestral,
    Codebook,
    Constrained,
    Denoiser,
    Diffusion,
    Follow,
    Masked,
    Padded,
    Path,
    Posterior,
    State,
    bound,
)
from stochloc.data import held_out_windows
from stochloc.tasks.evaluate import tokens_to_evaluate
from stochloc.tasks.runs import Run, open_run

PATHS: dict[str, tuple[Path, int]] = {"masked": (Masked(), 64), "diffusion": (Diffusion(), 16)}
LENGTHS = (24, 36)
LINE = 64


@dataclass(frozen=True)
class AnswersRestricted:
    """A denoiser whose answers are restricted, but whose network is not told."""

    denoiser: Denoiser
    allowed: Bool[Tensor, "batch length vocabulary"]

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    def __call__(self, state: State) -> Posterior:
        """Return the restricted posterior."""
        return self.denoiser(state).reweighted(self.allowed.log())


def surroundings(length: int, window: int) -> dict[str, tuple[int, int]]:
    """Return how many unknown tokens stand before and after a text."""
    spare = window - length
    return {"bare": (0, 0), "middle": (spare // 2, spare - spare // 2), "begin": (0, spare)}


def kinds_of_characters(run: Run, tokens: Tensor) -> Bool[Tensor, "batch length vocabulary"]:
    """Return the tokens of the same kind as each: vowels, the space, or consonants."""
    kind = torch.zeros(run.tokenizer.vocabulary_size, dtype=torch.long)
    kind[run.tokenizer.encode("aeiou")] = 1
    kind[run.tokenizer.encode(" ")] = 2
    return kind == kind[tokens][..., None]


def report(name: str, denoiser: Denoiser, tokens: Tensor) -> None:
    """Print the bits per character on both paths."""
    figures = []
    for path, steps in PATHS.values():
        generator = torch.Generator().manual_seed(0)
        estimate = bound(denoiser, tokens, Follow(path), Ancestral(), steps, generator)
        per_character = 1 / tokens.shape[1] / math.log(2)
        figures.append(
            f"{estimate.mean * per_character:.3f} ± {estimate.stderr * per_character:.3f}"
        )
    print(f"| {name} | {' | '.join(figures)} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--lines", type=int, default=48)
    parser.add_argument("--smoke", action="store_true", help="a small model of its own")
    options = parser.parse_args()
    if options.smoke:
        with small_run() as folder:
            measure(open_run(folder), num_texts=2, num_lines=2)
    elif options.run is None:
        parser.error("give the folder of a run, or --smoke")
    else:
        measure(open_run(options.run), options.texts, options.lines)


def measure(run: Run, num_texts: int, num_lines: int) -> None:
    """Print the table for a model."""
    held_out = tokens_to_evaluate(run, None, "valid")[0]
    print(f"| | {' | '.join(PATHS)} |\n|---|---|---|")
    for length in LENGTHS:
        texts = held_out_windows(held_out, length, num_texts)
        for name, (before, after) in surroundings(length, run.length).items():
            report(f"{length} characters, {name}", Padded(run.model, before, after), texts)
    lines = held_out_windows(held_out, LINE, num_lines)
    allowed = kinds_of_characters(run, lines)
    report("kinds given, answers restricted", AnswersRestricted(run.model, allowed), lines)
    report("kinds given, network told", Constrained(run.model, allowed), lines)


if __name__ == "__main__":
    main()
