"""All figures by name, and the settings from which each is measured."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch

from stochloc.data.records import Reading
from stochloc.tasks.cyclic import CyclicExperiment
from stochloc.tasks.parts import Part, part_to_evaluate
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import WalkSettings
from stochloc.terminal import tell
from stochloc.viz import calibration, cyclic, error, paths, steps, training, walk
from stochloc.viz.files import Picture
from stochloc.viz.held_out import HeldOut, held_out_of


@dataclass(frozen=True)
class Subject:
    """The subject of figures. The same subject gives the same data.

    Attributes:
        run: The model; None for figures that need none.
        data: Held-out text: a file or the name of a corpus; None for the test part of the run's.
        num_sequences: Windows of held-out text, or held-out sequences, at least 2.
        counts: Numbers of steps of the figure `steps`.
        paths: Names of its paths.
        walk: The walk of the figure `walk`.
        length: Tokens of its text, at least 1; fewer where the model's sequences have fewer.
        experiment: The cyclic data.
        seed: Seed of each figure.
        reading: Which field of the data is the text.
    """

    run: Run | None = None
    data: str | None = None
    num_sequences: int = 64
    counts: tuple[int, ...] = (8, 16, 32, 64)
    paths: tuple[str, ...] = ("masked", "diffusion")
    walk: WalkSettings = field(default_factory=lambda: WalkSettings("hybrid"))
    length: int = 64
    experiment: CyclicExperiment = field(default_factory=CyclicExperiment)
    seed: int = 0
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        if self.num_sequences < 2:
            raise ValueError(
                "Standard errors need at least two windows of text or two sequences, not "
                f"{self.num_sequences}."
            )
        if self.length < 1:
            raise ValueError(f"A text needs at least one token, not {self.length}.")

    @property
    def needed_run(self) -> Run:
        """The run of a figure that is about a model."""
        if self.run is None:
            raise ValueError("This figure is about a model; name the folder of a run.")
        return self.run

    @property
    def generator(self) -> torch.Generator:
        """A new source of randomness on the run's device, the same every time."""
        device = "cpu" if self.run is None else self.run.device
        return torch.Generator(device).manual_seed(self.seed)

    @cached_property
    def part(self) -> Part:
        """The held-out text, or the held-out sequences of a model of those."""
        return part_to_evaluate(self.needed_run, self.data, None, self.reading)

    @cached_property
    def text(self) -> HeldOut:
        """Windows of the held-out text, or sequences."""
        return held_out_of(self.needed_run, self.part, self.num_sequences)

    @cached_property
    def error_field(self) -> error.ErrorField:
        """The error field, which two figures show."""
        return error.measure(self.text.denoiser, self.text, self.generator)


def _cyclic(subject: Subject) -> dict[str, Picture]:
    pictures = cyclic.measure(subject.experiment)
    return {f"cyclic-{name}": picture for name, picture in pictures.items()}


def _training(subject: Subject) -> dict[str, Picture]:
    law = subject.needed_run.recipe.training.law
    # Training draws γ on the CPU too.
    generator = torch.Generator().manual_seed(subject.seed)
    return {"training": training.measure(law, subject.error_field, generator)}


def _steps(subject: Subject) -> dict[str, Picture]:
    return {
        "steps": steps.measure(
            subject.needed_run, subject.part, subject.paths, subject.counts,
            subject.num_sequences, subject.seed,
        )
    }  # fmt: skip


def _calibration(subject: Subject) -> dict[str, Picture]:
    text = subject.text
    model = text.denoiser
    return {
        "calibration-reliability": calibration.measure_reliability(model, text, subject.generator),
        "calibration-uncertainty": calibration.measure_uncertainty(model, text, subject.generator),
    }


def _walk(subject: Subject) -> dict[str, Picture]:
    run = subject.needed_run
    chosen = subject.walk.resolve(run)
    policy, denoiser = chosen.apply(run.denoiser())
    read = [run.tokenizer.decode(torch.tensor([v])) for v in range(run.tokenizer.vocabulary_size)]
    picture = walk.measure(
        denoiser, _walk_length(subject), policy, chosen.transition, chosen.num_steps, read,
        subject.generator,
    )  # fmt: skip
    return {"walk": picture}


def _walk_length(subject: Subject) -> int:
    """Return the tokens of the walk's text, no more than a sequence of the model can have."""
    lengths = subject.needed_run.lengths
    if lengths is None or subject.length <= lengths.longest:
        return subject.length
    tell(f"stochloc: the walk has {lengths.longest} tokens, the most of a sequence of this model.")
    return lengths.longest


FIGURES: dict[str, Callable[[Subject], dict[str, Picture]]] = {
    "paths": lambda subject: {"paths": paths.measure(subject.seed)},
    "cyclic": _cyclic,
    "training": _training,
    "error": lambda subject: {"error": error.ErrorPicture(subject.error_field)},
    "steps": _steps,
    "calibration": _calibration,
    "walk": _walk,
}
# These figures need no model.
WITHOUT_RUN = ("paths", "cyclic")
