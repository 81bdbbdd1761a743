"""Figures of a comparison: learning curves, and sample quality over network calls."""

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stochloc.tasks.compare.table import Comparison, Row
from stochloc.viz.files import Picture, Rows
from stochloc.viz.style import COLOURS, INK, MARKERS

# Twenty methods need more than seven colours: the dash pattern changes when colours repeat.
DASHES = ("-", "--", ":")


@dataclass(frozen=True)
class LearningPicture:
    """Bounds on validation text over training tokens.

    Attributes:
        comparison: What was measured.
    """

    comparison: Comparison

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 7.6, 4.4

    def rows(self) -> Rows:
        """Return a row per bound."""
        header = ("method", "training_tokens", "seconds", "bits_per_character", "stderr")
        ratio = self.comparison.tokens_per_character
        points = [
            (
                row.method,
                p["tokens"],
                p["seconds"],
                ratio * p["bits_per_token"],
                ratio * p["stderr"],
            )
            for row in self.comparison.rows
            for p in row.curve
        ]
        return [header, *points]

    def draw(self, figure: Figure) -> None:
        """Draw a curve for each method."""
        axes, ratio = figure.subplots(), self.comparison.tokens_per_character
        for k, row in enumerate(self.comparison.rows):
            axes.errorbar(
                [point["tokens"] / 1e6 for point in row.curve],
                [ratio * point["bits_per_token"] for point in row.curve],
                [ratio * point["stderr"] for point in row.curve],
                label=row.method,
                **_line(k),
            )
        axes.set_xlabel("training tokens (millions)")
        axes.set_ylabel("bits per character\n(bound on validation text)")
        _legend(figure, axes)


@dataclass(frozen=True)
class SamplesPicture:
    """The judge's score of samples, and their entropy, over network calls.

    Attributes:
        comparison: What was measured.
    """

    comparison: Comparison

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 8.6, 4.4

    def rows(self) -> Rows:
        """Return a row per method and number of steps."""
        header = (
            "method", "steps", "denoiser_calls", "judged_bits_per_token", "judged_stderr",
            "entropy_bits_per_token", "entropy_stderr",
        )  # fmt: skip
        names = ("steps", "denoiser_calls", "judged", "judged_stderr", "entropy", "entropy_stderr")
        points = [
            (row.method, *(sample[name] for name in names))
            for row in self.comparison.rows
            for sample in row.samples
        ]
        return [header, *points]

    def draw(self, figure: Figure) -> None:
        """Draw a panel for the judge and one for the entropy, with a line for the text itself."""
        panels, own = figure.subplots(1, 2), self.comparison.text
        labels = {
            "judged": "n-gram judge (bits per token)",
            "entropy": "entropy within a sample (bits per token)",
        }
        for axes, (name, label) in zip(panels, labels.items(), strict=True):
            for k, row in enumerate(self.comparison.rows):
                points = _distinct(row)
                axes.errorbar(
                    [point["denoiser_calls"] for point in points],
                    [point[name] for point in points],
                    [point[f"{name}_stderr"] for point in points],
                    label=row.method,
                    **_line(k),
                )
            axes.axhline(
                getattr(own, name).mean, color=INK, linewidth=1, linestyle="-.", label="the text"
            )
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel("network calls per sample")
            axes.set_ylabel(label)
        panels[0].set_title("lower: closer to the text, or less varied")
        panels[1].set_title("target: the entropy of the text")
        _legend(figure, *panels)


def pictures(comparison: Comparison) -> dict[str, Picture]:
    """Return the figures of a comparison by name.

    Args:
        comparison: What was measured.

    Returns:
        The pictures.
    """
    return {"learning": LearningPicture(comparison), "samples": SamplesPicture(comparison)}


def _distinct(row: Row) -> list[dict[str, Any]]:
    # A method without a number of steps has the same number of calls several times.
    by_calls = {sample["denoiser_calls"]: sample for sample in row.samples}
    return [by_calls[calls] for calls in sorted(by_calls)]


def _line(k: int) -> dict[str, Any]:
    return {
        "color": COLOURS[k % len(COLOURS)],
        "marker": MARKERS[k % len(MARKERS)],
        "linestyle": DASHES[k // len(COLOURS) % len(DASHES)],
        "markersize": 3.5,
        "linewidth": 1.1,
        "capsize": 2,
    }


def _legend(figure: Figure, *panels: Axes) -> None:
    for axes in panels:
        axes.grid(True)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
