"""The command that shows in minutes what a small model can do."""

from dataclasses import dataclass
from pathlib import Path

from stochloc.cli.options import Json
from stochloc.cli.output import print_json
from stochloc.terminal import say, tell


@dataclass
class Quickstart:
    """Train a small model on the built-in corpus and show what it can do."""

    out: Path = Path("runs/quickstart")
    """Folder for the run; a run that is already there is shown again without training."""
    seed: int = 0
    """Seed of all randomness."""
    json: Json = False

    def run(self) -> None:
        """Train, bound, sample."""
        from stochloc.tasks.quickstart import quickstart

        results = quickstart(self.out, self.seed, say=tell if self.json else say)
        if self.json:
            print_json(results)
