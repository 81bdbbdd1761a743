"""The table of commands: a new one is a file beside this one, and a line here."""

from typing import Protocol, runtime_checkable

from stochloc.cli.compare import Compare
from stochloc.cli.correct import Correct
from stochloc.cli.cyclic import Cyclic
from stochloc.cli.demo import Demo
from stochloc.cli.eval import Eval
from stochloc.cli.export import Export
from stochloc.cli.importing import Import
from stochloc.cli.infill import Infill
from stochloc.cli.plot import Plot
from stochloc.cli.pull import Pull
from stochloc.cli.push import Push
from stochloc.cli.quickstart import Quickstart
from stochloc.cli.sample import Sample
from stochloc.cli.score import Score
from stochloc.cli.train import Train
from stochloc.cli.tune import Tune


@runtime_checkable
class Command(Protocol):
    """A dataclass whose attributes are flags."""

    def run(self) -> None:
        """Run the command and print its result."""
        ...


COMMANDS: dict[str, type[Command]] = {
    "quickstart": Quickstart,
    "train": Train,
    "eval": Eval,
    "sample": Sample,
    "infill": Infill,
    "correct": Correct,
    "score": Score,
    "tune": Tune,
    "cyclic": Cyclic,
    "plot": Plot,
    "compare": Compare,
    "import": Import,
    "demo": Demo,
    "export": Export,
    "push": Push,
    "pull": Pull,
}
