"""One look for all figures: inks of middle lightness on no background read on white and on black.

The colours stay apart for colour-blind eyes. matplotlib's own settings are never changed.
"""

from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK = "#808080"
COLOURS = ("#3b8fd0", "#d98324", "#1fa187", "#c964a0")
SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "font.size": 9.0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.transparent": True,
    "svg.hashsalt": "stochloc",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures are made and saved in our look.

    Returns:
        A context that restores matplotlib's settings when it is left.
    """
    return matplotlib.rc_context(SETTINGS)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that no window shows.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        A figure that finds room for its own labels.
    """
    return Figure(figsize=(width, height), layout="constrained")
