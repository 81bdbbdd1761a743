"""The cost of few steps: finite-step bounds of every path, with each transition."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from stochloc.tasks.evaluate import Evaluation, evaluate_part
from stochloc.tasks.parts import Part
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import WalkSettings
from stochloc.terminal import tell
from stochloc.viz.files import Rows
from stochloc.viz.style import COLOURS, MARKERS

TRANSITIONS = ("ancestral", "euler")


@dataclass(frozen=True)
class StepsBound:
    """One bound.

    Attributes:
        path: Name of the path.
        transition: Name of the transition.
        steps: Steps requested.
        denoiser_calls: Calls made.
        bits: Bits per character.
        stderr: Standard error of `bits`, over blocks of windows of text, or of sequences.
    """

    path: str
    transition: str
    steps: int
    denoiser_calls: int
    bits: float
    stderr: float


@dataclass(frozen=True)
class StepsPicture:
    """Bounds over numbers of steps.

    Attributes:
        bounds: The measured bounds.
        sequences: Windows of text, or sequences, per bound.
    """

    bounds: list[StepsBound]
    sequences: int

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 7.6, 3.8

    def rows(self) -> Rows:
        """Return a row per bound."""
        header = (
            "path", "transition", "steps", "denoiser_calls", "bits_per_character",
            "bits_per_character_stderr",
        )  # fmt: skip
        return [header, *(tuple(vars(bound).values()) for bound in self.bounds)]

    def draw(self, figure: Figure) -> None:
        """Draw a panel for each transition, a curve for each path."""
        panels = figure.subplots(1, len(TRANSITIONS), sharey=True)
        paths = list(dict.fromkeys(bound.path for bound in self.bounds))
        counts = sorted({bound.steps for bound in self.bounds})
        for axes, transition in zip(panels, TRANSITIONS, strict=True):
            for k, path in enumerate(paths):
                curve = [b for b in self.bounds if (b.path, b.transition) == (path, transition)]
                axes.errorbar(
                    [b.steps for b in curve], [b.bits for b in curve], [b.stderr for b in curve],
                    color=COLOURS[k % len(COLOURS)], marker=MARKERS[k % len(MARKERS)],
                    markersize=4, capsize=2, linewidth=1.2, label=path,
                )  # fmt: skip
            axes.set_xscale("log", base=2)
            axes.set_xticks(counts, [str(count) for count in counts], minor=False)
            axes.set_xlabel("number of steps")
            axes.set_title(f"{transition} steps")
            axes.grid(True)
        panels[0].set_ylabel("bits per character\n(finite-step bound)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")


def measure(
    run: Run,
    part: Part,
    paths: str | Sequence[str],
    counts: Sequence[int],
    num_sequences: int,
    seed: int,
) -> StepsPicture:
    """Bound the negative log probability of a text by walks of several numbers of steps.

    Args:
        run: The model.
        part: The text, or the sequences.
        paths: Names of the paths, or one name.
        counts: Numbers of steps, each at least 1.
        num_sequences: Windows of text, or sequences.
        seed: Seed of every bound.

    Returns:
        The data of the figure, without the points at which a path needs more steps. Costs the sum
        of `counts` denoiser calls per window or sequence, for each path and transition.

    Raises:
        ValueError: A setting is out of range, or no path can be walked in so few steps.
    """
    if not counts or min(counts) < 1:
        raise ValueError("Steps are counted from 1: give numbers of at least one step.")
    bounds, refusal = [], None
    for path in (paths,) if isinstance(paths, str) else paths:
        for transition in TRANSITIONS:
            for steps in sorted(set(counts)):
                walk = WalkSettings(path, transition, steps)
                evaluation = Evaluation(walk, False, num_sequences, seed)
                try:
                    result = evaluate_part(run, part, evaluation).to_dict()
                except ValueError as error:
                    refusal = error
                    tell(f"stochloc: {path} in {steps} steps left out: {error}")
                    continue
                spread = result["bits_per_character_stderr"]
                bounds.append(
                    StepsBound(
                        path, transition, steps, result["denoiser_calls"],
                        result["bits_per_character"], float("nan") if spread is None else spread,
                    )
                )  # fmt: skip
                tell(f"{path:16s}{transition:12s}{steps:5d} steps")
    if not bounds and refusal is not None:
        raise refusal
    return StepsPicture(bounds, num_sequences)
