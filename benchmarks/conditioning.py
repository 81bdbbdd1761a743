"""Does padding a short text to the training window help, and conditioning on constraints?

First, short held-out texts are scored bare, and padded with unknown tokens to the length of the
training windows. Then held-out lines are scored given the class of each character (vowel, consonant
or space): by a denoiser whose posterior is only restricted to the class, and by `Constrained`,
whose network also sees the classes. Bits per character of guided walks, the same noise for all; ±
is one standard error over texts.

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
from stochloc.tasks.parts import tokens_to_evaluate
from stochloc.tasks.runs import Run, open_run

PATHS: dict[str, tuple[Path, int]] = {"masked": (Masked(), 64), "diffusion": (Diffusion(), 16)}
LENGTHS = (24, 36)
LINE = 64


@dataclass(frozen=True)
class PosteriorRestricted:
    """A denoiser whose posterior is restricted, while its network does not see the constraint."""

    denoiser: Denoiser
    allowed: Bool[Tensor, "batch length vocabulary"]

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    def __call__(self, state: State) -> Posterior:
        """Return the restricted posterior."""
        return self.denoiser(state).reweighted(self.allowed.log())


def paddings(length: int, window: int) -> dict[str, tuple[int, int]]:
    """Return the numbers of unknown tokens before and after a text, by name."""
    spare = window - length
    return {"bare": (0, 0), "middle": (spare // 2, spare - spare // 2), "begin": (0, spare)}


def tokens_of_same_class(run: Run, tokens: Tensor) -> Bool[Tensor, "batch length vocabulary"]:
    """Return which tokens are in the class of each token: vowels, the space or consonants."""
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
    parser.add_argument(
        "--smoke", action="store_true", help="measure a small model trained on the spot"
    )
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
        for name, (before, after) in paddings(length, run.length).items():
            report(f"{length} characters, {name}", Padded(run.model, before, after), texts)
    lines = held_out_windows(held_out, LINE, num_lines)
    allowed = tokens_of_same_class(run, lines)
    report("classes given, posterior restricted", PosteriorRestricted(run.model, allowed), lines)
    report("classes given, network conditioned", Constrained(run.model, allowed), lines)


if __name__ == "__main__":
    main()
