"""The command that gives the probability of every line, or bounds it."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from stochloc.cli.by_record import ShareOption, share_of, work_on_file
from stochloc.cli.checks import check_label
from stochloc.cli.options import (
    Json,
    Label,
    MaybeCount,
    MaybePath,
    MaybePathName,
    OfFile,
    OfWeights,
    ReadingOptions,
    RunFolder,
    Seed,
    Weights,
    choices,
    typed_label,
)
from stochloc.cli.output import print_json
from stochloc.cli.unused import Unused
from stochloc.names import TransitionName
from stochloc.terminal import tell


@dataclass
class Score:
    """Give the probability of every line of a text, or bound it.

    A two-sided model gives the exact likelihood from left to right, in one call and without noise,
    unless a path, transition, number of steps or draws, or the line integral is asked for.
    """

    run_folder: RunFolder
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A text file (plain, .gz, .bz2, .xz or .zip), a pipe, or - for standard input, or a folder or
    file of another format that train --data takes, of which every record counts as a line; a line
    with characters that the model has never seen is not scored."""
    of_file: OfFile = field(default_factory=ReadingOptions)
    out: MaybePath = None
    """A file, NAME.jsonl, for a JSON object a line: every one is written as soon as it is known, so
    that texts larger than memory are scored, and the same command goes on after a kill."""
    shard: ShareOption = None
    tokens: bool = False
    """Show the cost of every token."""
    path: MaybePathName = None
    """The path to walk or to integrate along; masked when absent and something else is named."""
    transition: Annotated[TransitionName | None, choices(TransitionName)] = None
    """How the walk takes its steps; ancestral when absent."""
    steps: MaybeCount = None
    """Steps of the walk; with --continuous, denoiser calls per line. 64 when absent, as in eval."""
    continuous: bool = False
    """Take the line integral instead of the finite walk."""
    draws: MaybeCount = None
    """Walks per line, averaged, 4 when absent; at least two for a ± of each line."""
    label: Label = None
    seed: Seed = 0
    weights: OfWeights = field(default_factory=Weights)
    json: Json = False

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        shard = {"--shard": "without --out"} if self.out is None else {}
        if self.continuous:
            return {**shard, "--transition": "with --continuous"}
        # From left to right nothing is drawn.
        is_exact = self.path == "autoregressive"
        return {**shard, **({"--draws": "with --path autoregressive"} if is_exact else {})}

    def run(self) -> None:
        """Score and report."""
        from stochloc.data.reading import read_lines
        from stochloc.tasks.by_record.scoring import ScoreRecords
        from stochloc.tasks.score import chosen_scoring, score
        from stochloc.tasks.scored import describe, remarks

        if self.out is not None:
            share_of(self)
        found = self.weights.find(self.run_folder)
        self.of_file.reading().check(self.file)
        check_label(found.tokenizer, self.label)
        run = self.weights.open(found)
        scoring = chosen_scoring(
            run, self.path, self.transition, self.steps, self.draws, self.continuous, self.seed,
            typed_label(self.label),
        )  # fmt: skip
        if self.out is not None:
            work_on_file(self, self.file, run, ScoreRecords(run, scoring, self.tokens))
            return
        lines = read_lines(self.file, run.tokenizer, self.of_file.reading())
        result = score(run, lines, scoring)
        for remark in remarks(result):
            tell(f"stochloc: {remark}")
        if self.json:
            print_json(result.to_dict(self.tokens))
        else:
            print(describe(result, self.tokens))
