"""Figures of a comparison: learning curves, and sample quality over network calls.

Twenty coloured lines cannot be told apart. Some methods are in focus (`focus.py`): their lines are
thick and coloured, with error bars. The others are thin and grey. All are named at their ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stochloc.tasks.compare.table import Comparison, Row
from stochloc.viz.files import Picture, Rows
from stochloc.viz.focus import MOST, in_focus
from stochloc.viz.labels import LINE, End, label_ends
from stochloc.viz.style import FOCUS_COLOURS, GREY, GREY_TEXT, INK, MARKERS

WIDTH, MARGIN, LOWEST = 7.6, 0.8, 4.2
IN_FOCUS_POINTS, OTHER_POINTS = 9.0, 7.5


@dataclass(frozen=True)
class LearningPicture:
    """Bounds on validation text over training tokens.

    Attributes:
        comparison: What was measured.
        focus: Names of the methods in colour, at most `MOST`; empty for the default.
    """

    comparison: Comparison
    focus: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return WIDTH, _height(len(self.comparison.rows)) + MARGIN

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
        lines = _Lines(axes, in_focus(self.comparison.rows, self.focus))
        ends = [
            lines.draw(
                row.method,
                [point["tokens"] / 1e6 for point in row.curve],
                [ratio * point["bits_per_token"] for point in row.curve],
                [ratio * point["stderr"] for point in row.curve],
            )
            for row in self.comparison.rows
        ]
        axes.grid(True)
        axes.set_xlabel("training tokens (millions)")
        axes.set_ylabel("bits per character\n(bound on validation text)")
        label_ends(figure, axes, ends)


@dataclass(frozen=True)
class SamplesPicture:
    """The judge's score of samples, and their entropy, over network calls.

    Attributes:
        comparison: What was measured.
        focus: Names of the methods in colour, at most `MOST`; empty for the default.
    """

    comparison: Comparison
    focus: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        # One more label, of the text itself.
        return WIDTH, 2 * _height(len(self.comparison.rows) + 1) + 2 * MARGIN

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
        panels, own = figure.subplots(2, 1), self.comparison.text
        labels = {
            "judged": "n-gram judge (bits per token)",
            "entropy": "entropy within a sample\n(bits per token)",
        }
        panel_ends: list[list[End]] = []
        chosen = in_focus(self.comparison.rows, self.focus)
        for axes, (name, label) in zip(panels, labels.items(), strict=True):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            lines, ends = _Lines(axes, chosen), []
            for row in self.comparison.rows:
                points = _distinct(row)
                calls, values, errors = (
                    [point[key] for point in points]
                    for key in ("denoiser_calls", name, f"{name}_stderr")
                )
                ends.append(lines.draw(row.method, calls, values, errors))
            text = getattr(own, name).mean
            axes.axhline(text, color=INK, linewidth=1.2, linestyle="-.")
            last = max(end.x for end in ends)
            ends.append(End("the text", last, text, INK, IN_FOCUS_POINTS))
            axes.grid(True)
            axes.set_xlabel("network calls per sample")
            axes.set_ylabel(label)
            panel_ends.append(ends)
        panels[0].set_title("lower: closer to the text, or less varied")
        panels[1].set_title("target: the entropy of the text")
        for axes, ends in zip(panels, panel_ends, strict=True):
            label_ends(figure, axes, ends)


@dataclass(frozen=True)
class _Lines:
    """Draws a line for each method, and says where it ends."""

    axes: Axes
    in_focus: tuple[str, ...]

    def draw(
        self, name: str, x: Sequence[float], y: Sequence[float], stderr: Sequence[float]
    ) -> End:
        """Draw the line of a method."""
        if name not in self.in_focus:
            # A single point would not be visible as a line.
            marker = "o" if len(x) == 1 else ""
            self.axes.plot(x, y, color=GREY, linewidth=0.9, marker=marker, markersize=3, zorder=2)
            return End(name, x[-1], y[-1], GREY_TEXT, OTHER_POINTS)
        k = self.in_focus.index(name)
        look: dict[str, Any] = {
            "color": FOCUS_COLOURS[k],
            "marker": MARKERS[k],
            "markersize": 5,
            "linewidth": 2,
            "elinewidth": 1.2,
            "capsize": 2.5,
            # The first lies above the others.
            "zorder": 3 + MOST - k,
        }
        self.axes.errorbar(x, y, stderr, **look)
        return End(name, x[-1], y[-1], FOCUS_COLOURS[k], IN_FOCUS_POINTS, bold=True)


def pictures(comparison: Comparison, focus: tuple[str, ...] = ()) -> dict[str, Picture]:
    """Return the figures of a comparison by name.

    Args:
        comparison: What was measured.
        focus: Names of the methods in colour, at most `MOST`; empty for the default.

    Returns:
        The pictures.
    """
    return {
        "learning": LearningPicture(comparison, focus),
        "samples": SamplesPicture(comparison, focus),
    }


def _height(num_labels: int) -> float:
    # Inches of a panel beside which all labels have room.
    return max(LOWEST, num_labels * LINE * IN_FOCUS_POINTS / 72)


def _distinct(row: Row) -> list[dict[str, Any]]:
    # A method without a number of steps has the same number of calls several times.
    by_calls = {sample["denoiser_calls"]: sample for sample in row.samples}
    return [by_calls[calls] for calls in sorted(by_calls)]
