"""The command that draws figures."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from stochloc.cli.checks import check_data
from stochloc.cli.figures import need_matplotlib, write_all
from stochloc.cli.options import (
    Count,
    MaybePathName,
    MaybeText,
    OfFile,
    OfWeights,
    Positive,
    ReadingOptions,
    Transition,
    Weights,
    optional,
)
from stochloc.cli.ranges import at_least
from stochloc.cli.unused import Unused, unused_path
from stochloc.names import PATHS, FigureName, PathName
from stochloc.terminal import say, tell

if TYPE_CHECKING:
    from stochloc.viz.figures import Subject


@dataclass
class Plot:
    """Draw a figure as PNG and SVG, with its data as CSV beside it."""

    figure: Annotated[FigureName, tyro.conf.Positional]
    """paths: four paths of two tokens; cyclic: generation and recovery of cyclic data; training:
    the γ of training and of the bound; error: the error over γ and its integral; steps: bounds over
    numbers of steps; calibration: of the posterior; walk: the SNR of every token of a text."""
    out: Path
    """Folder for the files."""
    run_folder: Annotated[str | None, tyro.conf.Positional, optional("RUN")] = None
    """Folder of the run, or a model's name on the Hugging Face hub; paths and cyclic need none."""
    data: MaybeText = None
    """Held-out text or sequences: a file of any format that train --data takes, or a corpus by
    name; the test part of the run's own when absent."""
    of_file: OfFile = field(default_factory=ReadingOptions)
    sequences: Count = 64
    """Windows of held-out text, or held-out sequences, evenly spaced."""
    paths: tuple[PathName, ...] = PATHS
    """The paths of the figure of steps."""
    counts: Annotated[tuple[int, ...], at_least(1)] = (8, 16, 32, 64)
    """The numbers of steps of the figure of steps."""
    length: Count = 64
    """Tokens of the walk's text, at most those of the model's longest sequence."""
    steps: Count = 64
    """Steps of the walk."""
    path: MaybePathName = None
    """The path of the walk, hybrid when absent; tuned: see stochloc tune."""
    policy: str = "path"
    """The policy that allocates SNR on the walk, as in sample."""
    transition: Transition = "ancestral"
    size: Annotated[int, at_least(2)] = 7
    """Symbols of the cyclic data."""
    snr: Positive = 0.5
    """SNR of the soft mask in the recovery of cyclic data."""
    seed: int = 0
    """The same seed gives the same data."""
    weights: OfWeights = field(default_factory=Weights)

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        others = {
            flag: f"with the figure {self.figure}"
            for flag, figures in _FIGURES_OF.items()
            if self.figure not in (*figures, "all")
        }
        return {**unused_path(self.policy), **others, **self.of_file.unused(self.data)}

    def run(self) -> None:
        """Measure, draw and name the files."""
        need_matplotlib()
        from stochloc.viz.figures import FIGURES, WITHOUT_RUN
        from stochloc.viz.files import check_folder

        names = tuple(FIGURES) if self.figure == "all" else (self.figure,)
        if self.run_folder is None and not set(names) <= set(WITHOUT_RUN):
            raise ValueError(
                f"The figure {self.figure} is about a model; name its folder: "
                f"stochloc plot {self.figure} RUN --out DIR."
            )
        check_folder(self.out)
        check_data(self.data, self.of_file.reading())
        subject = self._subject()
        for name in names:
            tell(f"drawing {name}")
            write_all(FIGURES[name](subject), self.out, say)

    def _subject(self) -> "Subject":
        from stochloc.tasks.cyclic import CyclicExperiment
        from stochloc.tasks.policies import PolicyChoice
        from stochloc.tasks.walks import WalkSettings
        from stochloc.viz.figures import Subject

        policy = PolicyChoice(self.policy)
        policy.check()
        return Subject(
            None if self.run_folder is None else self.weights.open(self.run_folder),
            self.data,
            self.sequences,
            self.counts,
            self.paths,
            WalkSettings(self.path or "hybrid", self.transition, self.steps, policy),
            self.length,
            CyclicExperiment(self.size, recovery_snr=self.snr, seed=self.seed),
            self.seed,
            self.of_file.reading(),
        )


# Which figures a flag is for, if not for all.
_FIGURES_OF = {
    "--paths": ("steps",), "--counts": ("steps",), "--length": ("walk",), "--steps": ("walk",),
    "--path": ("walk",), "--policy": ("walk",), "--transition": ("walk",),
    "--size": ("cyclic",), "--snr": ("cyclic",),
    "--data": ("training", "error", "steps", "calibration"),
    "--sequences": ("training", "error", "steps", "calibration"),
    "--checkpoint": ("training", "error", "steps", "calibration", "walk"),
    "--accelerator": ("training", "error", "steps", "calibration", "walk"),
}  # fmt: skip
