"""The command that compares methods."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stochloc.cli.figures import write_all
from stochloc.cli.options import (
    Count,
    MaybeText,
    OfFile,
    ReadingOptions,
    TestText,
    Tokenizer,
    ValidText,
    choices,
    device,
)
from stochloc.cli.output import as_json
from stochloc.cli.ranges import POSITIVE, SHARE, at_least
from stochloc.cli.unused import Unused, unused_shares
from stochloc.names import OptimizerName
from stochloc.terminal import say, tell


@dataclass
class Compare:
    """Train, score and sample several methods on one text, with the same backbone and budget."""

    data: str
    """A file of any format that train --data takes, or a corpus by name."""
    out: Path
    """Folder for trials and results; trials that are already there are not run again."""
    source: Annotated[
        Path | None,
        tyro.conf.arg(
            name="from",
            metavar="PATH",
            help="The trials.jsonl of an earlier comparison, or its folder: its trials count as "
            "finished.",
            help_behavior_hint="",
        ),
    ] = None
    methods: str = "all"
    """Names separated by commas, or all: the methods of the paper's Table 1."""
    budget: str = "updates=1500"
    """Training of each method: updates=N, tokens=N or seconds=N."""
    seeds: Count = 1
    """Full trials of each method."""
    grid: Annotated[tuple[float, ...], POSITIVE] = (1e-3, 2e-3, 4e-3)
    """Learning rates; each is tried, and the best on validation text is used."""
    short: Annotated[float, SHARE] = 1.0
    """Share of the budget for each trial of the grid; short trials favour learning rates that are
    too high for the full budget."""
    optimizer: Annotated[OptimizerName, choices(OptimizerName)] = "adamw"
    """The optimizer of all methods."""
    jobs: Count = 1
    """Trials run at the same time, each in a process with its share of the cores."""
    of_file: OfFile = field(default_factory=ReadingOptions)
    tokenizer: Tokenizer = None
    valid: ValidText = None
    test: TestText = None
    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Shares of train, validation and test where they are cut from --data."""
    length: Count = 128
    """Tokens per window."""
    batch_size: Count = 32
    """Windows per update."""
    width: Count = 128
    """Width of the transformer."""
    depth: Count = 4
    """Number of transformer blocks."""
    heads: Count = 4
    """Attention heads per block."""
    windows: Annotated[int, at_least(2)] = 192
    """Windows of test text that are scored."""
    samples: Count = 32
    """Times drawn per window for bounds that are averages over times."""
    texts: Annotated[int, at_least(2)] = 64
    """Sequences drawn at each number of steps."""
    steps: Annotated[tuple[int, ...], at_least(1)] = (8, 32, 128)
    """Numbers of sampling steps."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Precision of the transformer's matrix products in training; all else, bounds and samples
    keep float32."""
    focus: MaybeText = None
    """Names separated by commas, six at most: methods in colour in figures; others are grey."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; some methods need float64, which rules out mps."""
    json: bool = False
    """Print one JSON object instead of the table."""

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        single = {"--short": "with a single rate in --grid"} if len(self.grid) == 1 else {}
        return {**unused_shares(self.valid, self.test), **single}

    def run(self) -> None:
        """Run what is missing, print the table, draw the figures."""
        from stochloc.nn import Backbone
        from stochloc.tasks.compare.budget import Budget
        from stochloc.tasks.compare.compare import compare
        from stochloc.tasks.compare.contest import Contest, parse_methods
        from stochloc.tasks.compare.trial import Scoring
        from stochloc.tasks.data_choice import DataChoice
        from stochloc.training.recipes import TrainingConfig
        from stochloc.viz.focus import parse_focus

        focus = parse_focus(self.focus)
        training = TrainingConfig(
            self.length, self.batch_size, checkpoint_every=100, optimizer=self.optimizer
        )
        contest = Contest(
            DataChoice(
                self.data,
                self.valid,
                self.test,
                self.fractions,
                field=self.of_file.field,
                hf_split=self.of_file.hf_split,
            ),
            self.tokenizer,
            parse_methods(self.methods),
            Budget.parse(self.budget),
            self.seeds,
            self.grid,
            self.short,
            Backbone(self.width, self.depth, self.heads),
            training,
            Scoring(self.windows, self.samples, texts=self.texts, steps=self.steps),
            half_products=self.precision == "bf16-mixed",
        )
        found = device(self.accelerator)
        found = "cpu" if found == "mps" else found
        comparison = compare(contest, self.out, self.jobs, found, tell, self.source)
        # Figures are still to be drawn, so a reader that stops here must not end the program.
        say(as_json(comparison.to_dict(), indent=2) if self.json else comparison.table())
        tell(f"table.md, table.csv, comparison.json and trials.jsonl are in {self.out}")
        if find_spec("matplotlib") is None:
            again = "pip install 'stochloc[plot]' and give the same command again"
            tell(f"stochloc: no figures: {again}.")
            return
        from stochloc.viz.comparison import pictures

        methods = [row.method for row in comparison.rows]
        for name in focus:
            if name not in methods:
                tell(f"stochloc: {name} has no results here, so it is not in the figures.")
        write_all(pictures(comparison, focus), self.out, tell)
