"""A figure's files: PNG, SVG and its data as CSV, each written completely or not at all.

An animation is written as GIF too.
"""

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from stochloc.training.checkpoint import replacing
from stochloc.viz.style import new_figure, styled

Rows = Sequence[tuple[str | float | int, ...]]
FRAME_MS, LAST_FRAME_MS = 80, 3000


@runtime_checkable
class Picture(Protocol):
    """Measured data that can be drawn and written as a table."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        ...

    def rows(self) -> Rows:
        """Return the table, beginning with a header that names the units."""
        ...

    def draw(self, figure: Figure) -> None:
        """Draw the data into an empty figure."""
        ...


@runtime_checkable
class Moving(Picture, Protocol):
    """A picture that can be animated."""

    @property
    def frame_size(self) -> tuple[float, float]:
        """Width and height of a frame in inches."""
        ...

    @property
    def num_frames(self) -> int:
        """Number of frames, at least 1."""
        ...

    def draw_frame(self, figure: Figure, n: int) -> None:
        """Draw frame number n into an empty figure."""
        ...


def check_folder(folder: Path) -> None:
    """Create a folder and check, before anything is measured, that it can be written to.

    Args:
        folder: Where figures will go.

    Raises:
        ValueError: It cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _refusal(folder, error) from error


def write(picture: Picture, folder: Path, name: str) -> list[Path]:
    """Write a picture as `name.png`, `name.svg` and `name.csv`; an animated one as `name.gif` too.

    Args:
        picture: What to draw.
        folder: The folder to write to; created if it is missing.
        name: Name of the files without suffix.

    Returns:
        The files. The same data give the same CSV.

    Raises:
        ValueError: The folder cannot be written to.
    """
    files = [folder / f"{name}{suffix}" for suffix in (".png", ".svg", ".csv")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with styled():
            figure = new_figure(*picture.size)
            picture.draw(figure)
            _save(figure, files[0], {})
            # Without a date, the same data give the same file.
            _save(figure, files[1], {"Date": None})
            if isinstance(picture, Moving):
                files.append(folder / f"{name}.gif")
                _animate(picture, files[-1])
        with replacing(files[2]) as path, path.open("w", newline="", encoding="utf-8") as table:
            csv.writer(table).writerows(picture.rows())
    except OSError as error:
        raise _refusal(folder, error) from error
    return files


def _save(figure: Figure, file: Path, metadata: dict[str, None]) -> None:
    with replacing(file) as path:
        figure.savefig(
            path, format=file.suffix[1:], dpi=150, bbox_inches="tight", metadata=metadata
        )


def _animate(picture: Moving, file: Path) -> None:
    figure, frames = new_figure(*picture.frame_size), []
    canvas = FigureCanvasAgg(figure)
    for n in range(picture.num_frames):
        figure.clear()
        picture.draw_frame(figure, n)
        canvas.draw()
        frame = Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba()))
        frames.append(frame.convert("RGB").quantize(64))
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    with replacing(file) as path:
        frames[0].save(
            path, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
        )


def _refusal(folder: Path, error: OSError) -> ValueError:
    return ValueError(f"Cannot write figures into {folder}: {error.strerror}.")
