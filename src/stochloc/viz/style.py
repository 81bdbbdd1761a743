"""One style for all figures: on an opaque white background, readable on light and on dark pages.

Colour-blind readers can distinguish the colours, and no figure distinguishes curves by colour
alone. matplotlib's global settings are never changed.
"""

from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Of text and axes, contrast 7 on white.
INK = "#595959"
# Contrast of 2.9 or more on white.
COLOURS = (
    "#3b8fd0", "#d27d1c", "#1fa187", "#c964a0", "#7a6be0", "#d8504a", "#2099b8", "#8a8a3c",
)  # fmt: skip
# Lines in focus, and all others with their names. Two colours in focus differ by 18 units of CIELAB
# or more for readers without red, green or blue cones.
FOCUS_COLOURS = ("#0b5fa5", "#e06c00", "#00a37a", "#d55fa5", "#3b1f5b", "#8c2d04")
GREY, GREY_TEXT = "#bdbdbd", "#6b6b6b"
# As many as colours and one, so that a figure of more curves repeats no pair.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "white",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.0,
    "figure.facecolor": "white",
    "font.size": 9.0,
    "grid.alpha": 0.3,
    "grid.color": INK,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.transparent": False,
    "svg.hashsalt": "stochloc",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
SNR_LABEL = "SNR γ (dimensionless)"


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures are made and saved in this style.

    Returns:
        A context manager that restores matplotlib's settings on exit.
    """
    return matplotlib.rc_context(SETTINGS)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that is not shown in a window.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        A figure whose layout adapts to its labels.
    """
    return Figure(figsize=(width, height), layout="constrained")


def snr_axis(axes: Axes) -> None:
    """Make the horizontal axis one of γ, in powers of ten written as plain numbers.

    Args:
        axes: Where curves over γ are drawn.
    """
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(SNR_LABEL)
    axes.grid(True)
