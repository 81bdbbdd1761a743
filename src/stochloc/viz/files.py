"""A figure's files: PNG and SVG, and its data as CSV beside them, each whole or absent."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from matplotlib.figure import Figure

from stochloc.training.checkpoint import replacing
from stochloc.viz.style import new_figure, styled

Rows = Sequence[tuple[str | float | int, ...]]


@runtime_checkable
class Picture(Protocol):
    """Measured data that can be drawn and written as a table."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        ...

    def rows(self) -> Rows:
        """Return the table, its header with units first."""
        ...

    def draw(self, figure: Figure) -> None:
        """Draw the data into an empty figure."""
        ...


def write(picture: Picture, folder: Path, name: str) -> list[Path]:
    """Write a picture as `name.png`, `name.svg` and `name.csv`.

    Args:
        picture: What to draw.
        folder: Where to; made if it is missing.
        name: Name of the files without suffix.

    Returns:
        The three files. The same data give the same CSV.

    Raises:
        ValueError: The folder cannot be written to.
    """
    files = [folder / f"{name}{suffix}" for suffix in (".png", ".svg", ".csv")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with styled():
            figure = new_figure(*picture.size)
            picture.draw(figure)
            for file in files[:2]:
                with replacing(file) as path:
                    figure.savefig(path, format=file.suffix[1:], dpi=150, bbox_inches="tight")
        with replacing(files[2]) as path, path.open("w", newline="", encoding="utf-8") as table:
            csv.writer(table).writerows(picture.rows())
    except OSError as error:
        raise ValueError(f"Cannot write figures into {folder}: {error.strerror}.") from error
    return files
