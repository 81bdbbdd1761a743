"""How many puzzles an autoregressive network solves, trained on the same grids for as long.

The network reads the 81 cells of a puzzle, then writes the 81 digits of the grid in reading order:
a causal transformer of the size of the preset `puzzle`, with embeddings of the row, the column and
the box of every cell. In training a grid is shown with 15 to 75 % of its cells given, as to ours.
It answers with the most likely digit of each cell, and then, if the rules are not obeyed, with
draws; a puzzle counts as solved once an answer obeys the rules. A call is one for each blank cell.

    python benchmarks/sudoku/autoregressive.py train --grids grids.txt --minutes 46 --out NETWORK
    python benchmarks/sudoku/autoregressive.py solve NETWORK --puzzles FILE [--number 1000]
        [--by-givens] [--draws 5]
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from rules import BLANK, CELLS, is_solved, read_puzzles
from safetensors.torch import load_file, save_file
from solve import lines
from torch import Tensor, nn
from torch.nn import functional as F
from ways import Outcome

from stochloc.nn.backbones.encoder import Transformer

BATCH, WIDTH, DEPTH, HEADS, ROTARY_BASE = 32, 128, 6, 4, 1e9
SHARES = (0.15, 0.75)


class Writer(nn.Module):
    """Logits of every cell's digit, given the puzzle and the cells before it."""

    def __init__(self) -> None:
        super().__init__()
        # Distance in the text means little here: rotations that hardly turn, as in the preset.
        self.network = Transformer(
            WIDTH, DEPTH, HEADS, ROTARY_BASE, neighbour_logit=0.0, causal=True
        )
        self.given = nn.Parameter(torch.randn(10, WIDTH))
        self.written = nn.Parameter(torch.randn(10, WIDTH))
        # The cell of a given, the cell written last, and the cell to write have each their vectors.
        self.places = nn.Parameter(torch.randn(3, 27, WIDTH) / math.sqrt(3))
        self.head = nn.Linear(WIDTH, 9)
        cell = torch.arange(CELLS)
        row, column = cell // 9, cell % 9
        units = torch.stack([row, 9 + column, 18 + row // 3 * 3 + column // 3], 1)
        self.register_buffer("units", units, persistent=False)
        self.units: Tensor

    def read(self, puzzles: Tensor) -> Tensor:
        """Return the embeddings of puzzles, digits from 0 to 9, `(B, 81)`."""
        return self.given[puzzles] + self.places[0][self.units].sum(1)

    def write(self, before: Tensor, first: int) -> Tensor:
        """Return the embeddings from which cells are predicted.

        Args:
            before: The digit of the cell before each, 0 before the first of all, `(B, K)`.
            first: The first of the K cells.
        """
        to_write = torch.arange(first, first + before.shape[1])
        last = self.places[1][self.units[(to_write - 1).clamp(min=0)]].sum(1)
        last = last * (to_write > 0)[:, None]
        return self.written[before] + last + self.places[2][self.units[to_write]].sum(1)

    def forward(self, puzzles: Tensor, grids: Tensor) -> Tensor:
        """Return the logits of all cells of full grids, `(B, 81, 9)`."""
        before = F.pad(grids[:, :-1], (1, 0))
        both = torch.cat([self.read(puzzles), self.write(before, 0)], 1)
        return self.head(self.network(both)[:, CELLS:])


def train(grids: np.ndarray, minutes: float, learning_rate: float, seed: int) -> Writer:
    """Return a network trained for some minutes of processor time."""
    torch.manual_seed(seed)
    generator, network = torch.Generator().manual_seed(seed), Writer()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, betas=(0.9, 0.98), fused=True)
    full, started_s, step, shown = torch.from_numpy(grids).long(), time.process_time(), 0, 0.0
    while (share := (time.process_time() - started_s) / (60 * minutes)) < 1:
        rows = full[torch.randint(len(full), (BATCH,), generator=generator)]
        known = SHARES[0] + (SHARES[1] - SHARES[0]) * torch.rand(BATCH, 1, generator=generator)
        puzzles = rows * (torch.rand(rows.shape, generator=generator) < known)
        blank = puzzles == BLANK
        nats = F.cross_entropy(network(puzzles, rows)[blank], rows[blank] - 1)
        optimizer.zero_grad()
        nats.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        rate = learning_rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        step += 1
        if share >= shown:
            print(f"{step} updates, {60 * minutes * share:.0f} s: {nats / math.log(2):.3f} bits")
            shown += 0.05
    print(f"{step} updates of {BATCH} grids")
    return network


@torch.no_grad()
def answer(network: Writer, puzzles: np.ndarray, generator: torch.Generator | None) -> np.ndarray:
    """Return grids with the most likely digits, or with drawn ones if there is a generator."""
    given = torch.from_numpy(puzzles).long()
    _, past = network.network.extend(network.read(given), [])
    before = torch.zeros(len(given), dtype=torch.long)
    written = []
    for cell in range(CELLS):
        hidden, past = network.network.extend(network.write(before[:, None], cell), past)
        logits = network.head(hidden[:, 0])
        if generator is None:
            digit = logits.argmax(-1) + 1
        else:
            digit = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0] + 1
        before = torch.where(given[:, cell] == BLANK, digit, given[:, cell])
        written.append(before)
    return torch.stack(written, 1).numpy().astype(np.int8)


def solve(network: Writer, puzzles: np.ndarray, draws: int, seed: int) -> Outcome:
    """Return what becomes of puzzles: the most likely answer, then draws for those unsolved."""
    generator = torch.Generator().manual_seed(seed)
    grids = answer(network, puzzles, None)
    solved, calls = is_solved(grids, puzzles), (puzzles == BLANK).sum(1)
    blanks = calls.copy()
    for _ in range(draws):
        (left,) = np.nonzero(~solved)
        if not len(left):
            break
        grids[left] = answer(network, puzzles[left], generator)
        solved[left] = is_solved(grids[left], puzzles[left])
        calls[left] += blanks[left]
    return Outcome(solved, calls, grids)


def main() -> None:
    """Train or solve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--grids", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=46)
    training.add_argument("--learning-rate", type=float, default=2e-3)
    training.add_argument("--out", type=Path, required=True)
    solving = commands.add_parser("solve")
    solving.add_argument("network", type=Path)
    solving.add_argument("--puzzles", type=Path, required=True)
    solving.add_argument("--number", type=int, default=1000)
    solving.add_argument("--draws", type=int, default=0)
    solving.add_argument("--by-givens", action="store_true")
    for command in (training, solving):
        command.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.command == "train":
        grids = read_puzzles(arguments.grids.read_text(encoding="ascii").splitlines())
        network = train(grids, arguments.minutes, arguments.learning_rate, arguments.seed)
        save_file(network.state_dict(), arguments.out)
        return
    network = Writer()
    network.load_state_dict(load_file(arguments.network))
    text = arguments.puzzles.read_text(encoding="ascii")
    puzzles = read_puzzles(text.splitlines())[: arguments.number]
    outcome = solve(network, puzzles, arguments.draws, arguments.seed)
    print("| givens | puzzles | solved | median calls | mean calls |")
    print("|---|---|---|---|---|")
    print("\n".join(lines(outcome, (puzzles != BLANK).sum(1), arguments.by_givens)))


if __name__ == "__main__":
    main()
