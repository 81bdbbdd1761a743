"""Names of lines at their ends, in a column to the right of a panel, where they cover nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Height of a line of text relative to its font size.
LINE = 1.25


@dataclass(frozen=True)
class End:
    """The end of a line, and how its name is written.

    Attributes:
        name: The name of the line.
        x: Where the line ends, in data coordinates.
        y: Where the line ends, in data coordinates.
        colour: Colour of the name.
        points: Font size.
        bold: Whether the name is bold.
    """

    name: str
    x: float
    y: float
    colour: str
    points: float
    bold: bool = False


def spread(wanted: Sequence[float], heights: Sequence[float], space: float) -> list[float]:
    """Return places of labels that do not overlap, as near as possible to where they should be.

    The places minimise the sum of squared displacements. Subtracting the cumulative distances
    between neighbours leaves the constraint that the places do not decrease; neighbours that
    violate it are pooled at their mean until none are left (isotonic regression).

    Args:
        wanted: Where the centres of the labels should be, in ascending order.
        heights: Height of each label.
        space: The labels lie between 0 and this, if they have room there.

    Returns:
        The centres, in the same order.
    """
    offsets = [0.0]
    for below, above in pairwise(heights):
        offsets.append(offsets[-1] + (below + above) / 2)
    pools: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=True):
        mean, count = place - offset, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        pools.append((mean, count))
    lowest = heights[0] / 2
    highest = max(lowest, space - heights[-1] / 2 - offsets[-1])
    means = [min(max(mean, lowest), highest) for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def label_ends(figure: Figure, axes: Axes, ends: Sequence[End]) -> None:
    """Write the name of every line beside the panel, with a dotted line from its end to its name.

    Args:
        figure: The figure, complete but for the names.
        axes: The panel.
        ends: The ends of its lines, at least one.
    """
    # The height of a panel is known after the layout; names at its side do not change it.
    figure.draw_without_rendering()
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    ends = sorted(ends, key=lambda end: end.y)
    space = axes.bbox.height * 72 / figure.dpi
    to_panel = axes.transData + axes.transAxes.inverted()
    wanted = [space * float(to_panel.transform((end.x, end.y))[1]) for end in ends]
    places = spread(wanted, [LINE * end.points for end in ends], space)
    for end, place in zip(ends, places, strict=True):
        axes.annotate(
            end.name,
            (end.x, end.y),
            (1.045, place / space),
            textcoords="axes fraction",
            color=end.colour,
            fontsize=end.points,
            fontweight="bold" if end.bold else "normal",
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": end.colour, "linewidth": 0.7, "linestyle": ":",
                "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 2,
            },
        )  # fmt: skip
