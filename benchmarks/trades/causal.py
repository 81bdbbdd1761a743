"""What an autoregressive network makes of sequences of one length, beside a two-sided one.

A causal transformer with as many blocks as the preset `tiny`, learned positions (of the token read
and of the one to predict), the recipe's optimiser, schedule and average of the weights, trained on
`train.txt` of a folder of parts as `promoters.py split` makes it. Printed: the exact cost of
`test.txt` in bits per letter, given the length, with its standard error over sequences.

    python benchmarks/trades/causal.py FOLDER [--updates 700] [--batch 8]
"""

import argparse
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.nn import Backbone
from stochloc.training.ema import AveragedWeights
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import tiny
from stochloc.training.update import OneProcess, Updates, as_one_part


class Causal(nn.Module):
    """Predicts every token of sequences of one length from those before it."""

    def __init__(self, vocabulary_size: int, length: int, backbone: Backbone) -> None:
        super().__init__()
        width = backbone.width
        self.network = backbone.transformer(causal=True)
        self.tokens = nn.Parameter(torch.randn(vocabulary_size + 1, width))
        self.places = nn.Parameter(torch.randn(2, length, width) / math.sqrt(2))
        self.head = nn.Parameter(torch.zeros(vocabulary_size, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return `-log P(x_i | x_<i)` of every token, nats."""
        before = F.pad(tokens[:, :-1], (1, 0), value=len(self.tokens) - 1)
        last, to_predict = F.pad(self.places[0, :-1], (0, 0, 1, 0)), self.places[1]
        hidden = self.network(self.tokens[before] + last + to_predict)
        return F.cross_entropy((hidden @ self.head.T).mT, tokens, reduction="none")


@dataclass(frozen=True)
class Rows:
    """Sequences drawn one after the other from a stream."""

    sequences: Tensor
    batch: int
    generator: torch.Generator

    def of(self, update: int) -> Tensor:
        """Return the sequences of the next update."""
        del update
        chosen = torch.randint(len(self.sequences), (self.batch,), generator=self.generator)
        return self.sequences[chosen]


def read(path: Path, alphabet: str) -> Tensor:
    """Return the sequences of a file as tokens; all have the same length."""
    lines = path.read_text(encoding="ascii").split()
    return torch.tensor([[alphabet.index(letter) for letter in line] for line in lines])


def main() -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--updates", type=int, default=700)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    text = (given.folder / "train.txt").read_text(encoding="ascii")
    alphabet = "".join(sorted(set(text.replace("\n", ""))))
    train, test = (read(given.folder / f"{part}.txt", alphabet) for part in ("train", "test"))
    torch.manual_seed(given.seed)
    config = replace(tiny(len(alphabet)).training, batch_size=given.batch, num_steps=given.updates)
    network = Causal(len(alphabet), train.shape[1], Backbone())
    average = AveragedWeights(network, config.ema_decay)
    updates = Updates(
        OneProcess(torch.device("cpu")),
        network,
        make_optimizer(network, config),
        average,
        config,
        Rows(train, given.batch, torch.Generator().manual_seed(given.seed)),
        as_one_part(lambda rows, _: network(rows).mean()),
    )
    began_s = time.process_time()
    for step in range(given.updates):
        updates.update(step)
    seconds = time.process_time() - began_s
    with torch.no_grad(), average.in_place():
        nats = torch.cat([network(rows) for rows in test.split(32)])
    bits = (nats.double().mean(1) / math.log(2)).numpy()
    size = sum(parameter.numel() for parameter in network.parameters())
    print(f"{size:,} parameters, {given.updates} updates of {given.batch}, {seconds:.0f} s")
    print(f"{bits.mean():.3f} ± {np.std(bits, ddof=1) / math.sqrt(len(bits)):.3f} bits per letter")


if __name__ == "__main__":
    main()
