"""The command that finds the best paths of few steps."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from stochloc.cli.checks import check_data
from stochloc.cli.options import (
    Count,
    Json,
    OfWeights,
    OwnText,
    ReadingOptions,
    Seed,
    Weights,
)
from stochloc.cli.output import print_json
from stochloc.names import TransitionName
from stochloc.terminal import tell


@dataclass
class Tune:
    """Find the best paths of few steps for a model, for use as --path tuned."""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run; the result is kept there."""
    transition: TransitionName = "ancestral"
    """How the walk will take its steps."""
    sequences: Count = 48
    """Windows of validation text, or whole sequences, to measure on."""
    data: OwnText = None
    seed: Seed = 0
    weights: OfWeights = field(default_factory=Weights)
    json: Json = False

    def run(self) -> None:
        """Measure, keep and report."""
        from stochloc.tasks.tune import tune

        check_data(self.data, ReadingOptions().reading())
        run = self.weights.open(self.run_folder)
        result = tune(run, self.transition, self.sequences, self.seed, tell, self.data)
        if self.json:
            print_json(result)
            return
        print("steps  bits per token (on the text the path was tuned on)")
        for path in result["paths"]:
            print(f"{path['steps']:5d}  {path['bits_per_token']:.4f}")
