"""How many puzzles a trained run solves, by way of solving and by number of givens.

Grids are checked by the rules and against the givens alone. Every fraction has its binomial
standard error; calls are denoiser calls for one puzzle, the median and the mean over all puzzles of
the line, unsolved ones included.

    python benchmarks/sudoku/solve.py RUN --puzzles FILE [--number 1000] [--calls 500]
    python benchmarks/sudoku/solve.py RUN --puzzles FILE --way backtracking --by-givens
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from board import Board
from rules import BLANK, CELLS, read_puzzles
from ways import Outcome, solve, ways

from stochloc.tasks.runs import Run, open_run

BATCH = 50


def outcome_of(run: Run, puzzles: np.ndarray, way: str, calls: int, seed: int) -> Outcome:
    """Return what becomes of puzzles, batch by batch."""
    board = Board.of(run.tokenizer)
    denoiser = run.denoiser_for(CELLS)
    parts = [
        solve(denoiser, board, puzzles[k : k + BATCH], ways(board)[way](calls), calls, seed + k)
        for k in range(0, len(puzzles), BATCH)
    ]
    return Outcome(
        np.concatenate([part.solved for part in parts]),
        np.concatenate([part.calls for part in parts]),
        np.concatenate([part.grids for part in parts]),
    )


def lines(outcome: Outcome, givens: np.ndarray, by_givens: bool) -> Iterator[str]:
    """Yield one line for all puzzles, or one for each number of givens."""
    groups = np.unique(givens) if by_givens else [None]
    for group in groups:
        rows = np.full(len(givens), True) if group is None else givens == group
        number, solved = int(rows.sum()), float(outcome.solved[rows].mean())
        stderr = math.sqrt(solved * (1 - solved) / number)
        spent = outcome.calls[rows]
        label = f"{givens.min()}-{givens.max()}" if group is None else f"{group}"
        yield (
            f"| {label} | {number} | {100 * solved:.1f} ± {100 * stderr:.1f} % "
            f"| {np.median(spent):.0f} | {spent.mean():.0f} |"
        )


def main() -> None:
    """Print a table for every way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--puzzles", type=Path, required=True)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--way", action="append")
    parser.add_argument("--by-givens", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    text = arguments.puzzles.read_text(encoding="ascii")
    puzzles = read_puzzles(text.splitlines())[: arguments.number]
    givens = (puzzles != BLANK).sum(1)
    every = ways(Board.of(run.tokenizer))
    chosen = arguments.way or list(every)
    if unknown := set(chosen) - set(every):
        parser.error(f"There is no way {min(unknown)!r}; the ways are: {'; '.join(every)}.")
    for way in chosen:
        begun = time.monotonic()
        outcome = outcome_of(run, puzzles, way, arguments.calls, arguments.seed)
        print(f"\n{way}, {time.monotonic() - begun:.0f} s")
        print("| givens | puzzles | solved | median calls | mean calls |")
        print("|---|---|---|---|---|")
        print("\n".join(lines(outcome, givens, arguments.by_givens)), flush=True)


if __name__ == "__main__":
    main()
