"""How to split a two-sided model, and what to show it: variants of one, one change each.

    python benchmarks/splits.py TEXT [--updates 500] [--only NAME ...] [--seeds 0] [--smoke]

Every variant is trained like a run of `stochloc train`: the same windows and noise per update, the
optimizer, schedule and average of the recipe `tiny`. Printed, in bits per character of validation
text: the bound on the masked and on the diffusion path, the exact cost from left to right, and
below them the difference of each from the first variant of the same seed. The windows are the same
for all, so the standard error of a difference, over windows, is smaller than that of its terms.
The text is cut as `stochloc train` cuts it and read as a-z and space. Prints Markdown, a row as
soon as it is finished.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from smoke import TEXT
from torch import Tensor, nn

from stochloc.core import Diffusion, Estimate, Masked, left_to_right, line_integral
from stochloc.data import Corpus, count_tokens, draw_windows, held_out_windows
from stochloc.nn import Backbone, LocalizationModel
from stochloc.nn.backbones.squared_relu import squared_relu
from stochloc.nn.backbones.two_sided import Join, TwoSidedTransformer
from stochloc.tasks.data_choice import DataChoice
from stochloc.training.choices import OURS, SHOWN, SIDED
from stochloc.training.ema import AveragedWeights
from stochloc.training.objective import cross_entropy
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import ADAMW, MUON, TrainingConfig, tiny
from stochloc.training.seeds import seeded_generator
from stochloc.training.snr import (
    Endpoints,
    IndependentSides,
    LeftToRight,
    Masks,
    SidedSnrLaw,
    SnrLaw,
    TokenLogNormal,
)
from stochloc.training.update import OneProcess, Updates, as_one_part
from stochloc.training.windows import SeededWindows

CPU = torch.device("cpu")


class DeepJoin(Join):
    """A join, and a perceptron that adds to what it made of both sides."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.last_in = nn.Linear(width, 4 * width, bias=False)
        self.last_out = nn.Linear(4 * width, width, bias=False)
        self.last_norm = nn.LayerNorm(width, bias=False)
        for linear in (self.last_in, self.last_out):
            nn.init.normal_(linear.weight, std=1 / math.sqrt(linear.in_features))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return one embedding made of two."""
        hidden = super().forward(left, right)
        return self.last_norm(hidden + self.last_out(squared_relu(self.last_in(hidden))))


@dataclass(frozen=True)
class Variant:
    """A two-sided model and its training.

    Attributes:
        blocks: Blocks of the left and of the right stack.
        width: Width of both.
        shared: Whether both stacks have the same weights.
        deep_join: Whether a second perceptron follows the join.
        law: Which γ is shown in training.
        learning_rate: Its highest value.
        optimizer: Its name.
    """

    blocks: tuple[int, int] = (2, 2)
    width: int = 128
    shared: bool = False
    deep_join: bool = False
    law: SnrLaw | SidedSnrLaw = OURS.law
    learning_rate: float = 2e-3
    optimizer: str = ADAMW

    def model(self, vocabulary_size: int) -> LocalizationModel:
        """Return the untrained model."""
        size = replace(Backbone(), width=self.width, depth=sum(self.blocks))
        model = LocalizationModel(OURS.model(vocabulary_size, size))
        assert isinstance(model.transformer, TwoSidedTransformer)
        left, right = self.blocks
        # The even split keeps its weights, which are those that a run begins with.
        if (left, right) != (size.depth - size.depth // 2, size.depth // 2):
            model.transformer.left = size.stack(left, causal=True)
            model.transformer.right = size.stack(right, causal=True)
        if self.shared:
            model.transformer.right = model.transformer.left
        if self.deep_join:
            model.transformer.join = DeepJoin(self.width)
        return model


def rows_read(
    share: float,
    known: float = 0.0,
    mirrored: float = 0.0,
    learning_rate: float = 2e-3,
    alone: float = 0.0,
    optimizer: str = ADAMW,
) -> Variant:
    """Return the first variant with other shares of sequences of which one side is known."""
    law = LeftToRight(SHOWN, share, mirrored, known, alone)
    return Variant(law=law, learning_rate=learning_rate, optimizer=optimizer)


def asked_twice(known: float, alone: float) -> Variant:
    """Return one that is asked for the tokens behind a known left, also given that left alone."""
    return rows_read(0.0, known, 0.0, 8e-3, alone, MUON)


def inside(law: SnrLaw) -> Variant:
    """Return the first variant with another law where a side is not known."""
    return Variant(law=replace(SIDED, inside=law))


# Rows are the sequences of a batch: read left to right, or with a known left and a noisy right, of
# which some are asked for twice.
VARIANTS = {
    "2 + 2 blocks of 128, the left known of 9/16, weight 1/2, 2e-3": Variant(),
    "3/16 of the rows, the left known of 6/16": rows_read(3 / 16, 6 / 16),
    "3/16 of the rows, the left known of 6/16, Muon": rows_read(
        3 / 16, 6 / 16, learning_rate=8e-3, optimizer=MUON
    ),
    "the left known of 6/16, weight 1": asked_twice(6 / 16, 1.0),
    "the left known of 8/16, weight 1/2": asked_twice(8 / 16, 0.5),
    "the left known of 8/16, weight 3/4": asked_twice(8 / 16, 0.75),
    "the left known of 8/16, weight 1": asked_twice(8 / 16, 1.0),
    "the left known of 9/16, weight 1": asked_twice(9 / 16, 1.0),
    "the left known of 10/16, weight 1/2": asked_twice(10 / 16, 0.5),
    "learning rate 1e-3": Variant(learning_rate=1e-3),
    "learning rate 3e-3": Variant(learning_rate=3e-3),
    "learning rate 4e-3": Variant(learning_rate=4e-3),
    "learning rate 6e-3": Variant(learning_rate=6e-3),
    "Muon, 4e-3": Variant(learning_rate=4e-3, optimizer=MUON),
    "Muon, 8e-3, the default": Variant(learning_rate=8e-3, optimizer=MUON),
    "Muon, 1.2e-2": Variant(learning_rate=1.2e-2, optimizer=MUON),
    "Muon, 1.6e-2": Variant(learning_rate=1.6e-2, optimizer=MUON),
    "no row": rows_read(0.0),
    "1/8 of the rows": rows_read(0.125),
    "1/8, the left known of 3/8": rows_read(0.125, 0.375),
    "1/4 of the rows": rows_read(0.25),
    "1/4 of the rows, 4e-3": rows_read(0.25, learning_rate=4e-3),
    "1/4, the left known of 1/4": rows_read(0.25, 0.25),
    "1/4, the left known of 1/2": rows_read(0.25, 0.5),
    "1/4, and 1/4 right to left": rows_read(0.25, mirrored=0.25),
    "3/8, the left known of 1/4": rows_read(0.375, 0.25),
    "1/2 of the rows": rows_read(0.5),
    "1/2 of the rows, 4e-3": rows_read(0.5, learning_rate=4e-3),
    "both sides independent": Variant(law=IndependentSides(SHOWN)),
    "3 + 1 blocks": Variant((3, 1)),
    "3 + 2 blocks": Variant((3, 2)),
    "4 + 4 blocks": Variant((4, 4)),
    "1 + 1 blocks of 168": Variant((1, 1), 168),
    "3 + 3 blocks of 104": Variant((3, 3), 104),
    "4 + 4 blocks of 96": Variant((4, 4), 96),
    "2 blocks for both sides": Variant((2, 2), shared=True),
    "4 blocks for both sides": Variant((4, 4), shared=True),
    "a second perceptron after the join": Variant(deep_join=True),
    "tokens masked or known, none between": inside(Masks()),
    "no tokens moved to the endpoints": inside(TokenLogNormal()),
    "median of γ 3": inside(Endpoints(TokenLogNormal(math.log(3.0)))),
    "median of γ 8": inside(Endpoints(TokenLogNormal(math.log(8.0)))),
    "spread of ln γ 0.8": inside(Endpoints(TokenLogNormal(sigma=0.8))),
    "spread of ln γ 1.8": inside(Endpoints(TokenLogNormal(sigma=1.8))),
}


def trained(
    variant: Variant, corpus: Corpus, config: TrainingConfig
) -> tuple[LocalizationModel, AveragedWeights, float]:
    """Return a variant, the average of its weights, and processor seconds per update."""
    size = corpus.tokenizer.vocabulary_size
    torch.manual_seed(config.seed)
    model = variant.model(size)
    model.set_unigram(torch.from_numpy(count_tokens(corpus.train, size)))

    def draw(rows: int, length: int, generator: torch.Generator) -> Tensor:
        return draw_windows(corpus.train, rows, length, generator)

    average = AveragedWeights(model, config.ema_decay)
    updates = Updates(
        OneProcess(CPU),
        model,
        make_optimizer(model, config),
        average,
        config,
        SeededWindows(draw, config),
        as_one_part(lambda tokens, noise: cross_entropy(model, tokens, variant.law, noise)),
    )
    began_s = time.process_time()
    for step in range(config.num_steps):
        updates.update(step)
    seconds = time.process_time() - began_s
    return model.eval(), average, seconds / config.num_steps


@torch.no_grad()
def bits(model: LocalizationModel, windows: Tensor, samples: int) -> list[Tensor]:
    """Return bits per character of every window, masked, diffusion and left to right."""

    def of(cost: Callable[[Tensor], Estimate]) -> Tensor:
        values = torch.cat([cost(rows).values for rows in windows.split(32)])
        return values / windows.shape[1] / math.log(2)

    noise = seeded_generator(CPU, 0, 0, 0, 2)
    return [
        *(
            of(lambda rows, path=path: line_integral(model, rows, path, samples, noise))
            for path in (Masked(), Diffusion())
        ),
        of(lambda rows: left_to_right(model, rows)),
    ]


def shown(values: Tensor, sign: str = "") -> str:
    """Return the mean over windows and its standard error."""
    return f"{values.mean():{sign}.3f} ± {values.std() / math.sqrt(len(values)):.3f}"


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", nargs="?", help="a text file, as `train --data` takes it")
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--windows", type=int, default=192)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--smoke", action="store_true", help="a few variants for two updates")
    given = parser.parse_args()
    if not (given.text or given.smoke):
        parser.error("name a text file")
    with TemporaryDirectory() as folder:
        path = given.text
        if given.smoke:
            path = str(Path(folder) / "text.txt")
            Path(path).write_text(TEXT * 120, encoding="utf-8")
        corpus = DataChoice(path).load_text("text8")
    config = replace(tiny(corpus.tokenizer.vocabulary_size).training, num_steps=given.updates)
    names, samples = given.only, given.samples
    if given.smoke:
        config, samples = replace(config, num_steps=2, length=16, batch_size=4), 1
        names = [*names[:1], "3 + 1 blocks", "2 blocks for both sides"]
    windows = held_out_windows(corpus.valid, config.length, given.windows)
    print("| variant | seed | parameters | s | masked path | diffusion path | left to right |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for seed in given.seeds:
        first = None
        for name in names:
            variant = VARIANTS[name]
            rate, optimizer = variant.learning_rate, variant.optimizer
            own = replace(config, seed=seed, learning_rate=rate, optimizer=optimizer)
            model, average, seconds = trained(variant, corpus, own)
            with average.in_place():
                costs = bits(model, windows, samples)
            row = [name, str(seed), f"{model.num_parameters:,}", f"{seconds:.2f}"]
            print(f"| {' | '.join(row + [shown(values) for values in costs])} |", flush=True)
            if first is not None:
                gains = [shown(c - f, "+") for c, f in zip(costs, first, strict=True)]
                print(f"| | | | | {' | '.join(gains)} |", flush=True)
            first = first or costs


if __name__ == "__main__":
    main()
