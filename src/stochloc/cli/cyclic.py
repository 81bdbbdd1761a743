"""The command that runs the exact experiment on cyclic sequences."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from stochloc.cli.figures import need_matplotlib, write_all
from stochloc.cli.options import MaybePath, Positive, Seed
from stochloc.cli.output import print_json
from stochloc.cli.ranges import at_least
from stochloc.terminal import tell

if TYPE_CHECKING:
    from stochloc.tasks.cyclic import CyclicExperiment


@dataclass
class Cyclic:
    """Run the paper's exact experiment on cyclic sequences (appendix C.1)."""

    size: Annotated[int, at_least(2)] = 7
    """Number of symbols and length of the sequences, K."""
    sequences: Annotated[int, at_least(2)] = 1000
    """Sequences per estimate."""
    snr: Positive = 0.5
    """SNR of the soft mask in the recovery experiment."""
    seed: Seed = 0
    figures: MaybePath = None
    """Folder for figures of one generation and one recovery, as images and animations."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def run(self) -> None:
        """Run and report."""
        from stochloc.tasks.cyclic import CyclicExperiment, describe

        experiment = CyclicExperiment(self.size, self.sequences, self.snr, self.seed)
        if self.figures is not None:
            _draw(experiment, self.figures)
        results = experiment.run()
        if self.json:
            print_json(results)
        else:
            print(describe(results))


def _draw(experiment: "CyclicExperiment", folder: Path) -> None:
    need_matplotlib()
    from stochloc.viz import cyclic
    from stochloc.viz.files import check_folder

    check_folder(folder)
    pictures = cyclic.measure(experiment)
    write_all({f"cyclic-{name}": picture for name, picture in pictures.items()}, folder, tell)
