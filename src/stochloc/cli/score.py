"""The command that bounds the probability of every line."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from stochloc.cli.options import Json, OfWeights, RunFolder, Seed, Transition, Weights
from stochloc.cli.output import print_json
from stochloc.cli.unused import Unused
from stochloc.names import PathName
from stochloc.terminal import tell


@dataclass
class Score:
    """Bound the probability of every line of a text."""

    run_folder: RunFolder
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A text file (plain, .gz, .bz2, .xz or .zip), a pipe, or - for standard input; a line with
    characters that the model has never seen is not scored."""
    tokens: bool = False
    """Show the cost of every token."""
    path: PathName = "masked"
    """The path to walk or to integrate along."""
    transition: Transition = "ancestral"
    steps: int = 64
    """Steps of the walk; with --continuous, denoiser calls per line."""
    continuous: bool = False
    """Take the line integral instead of the finite walk."""
    draws: int = 4
    """Walks per line, whose costs are averaged; at least two for a ± of each line."""
    seed: Seed = 0
    weights: OfWeights = field(default_factory=Weights)
    json: Json = False

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        return {"--transition": "with --continuous"} if self.continuous else {}

    def run(self) -> None:
        """Score and report."""
        from stochloc.data.reading import read_lines
        from stochloc.tasks.score import score
        from stochloc.tasks.scored import Scoring, describe, remarks
        from stochloc.tasks.walks import WalkSettings

        run = self.weights.open(self.run_folder)
        walk = WalkSettings(self.path, self.transition, self.steps)
        scoring = Scoring(walk, self.continuous, self.seed, self.draws)
        result = score(run, read_lines(self.file, run.tokenizer), scoring)
        for remark in remarks(result):
            tell(f"stochloc: {remark}")
        if self.json:
            print_json(result.to_dict(self.tokens))
        else:
            print(describe(result, self.tokens))
