"""Figures as files, for the commands that draw them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stochloc.viz.files import Picture


def need_matplotlib() -> None:
    """Raise an error if matplotlib is missing.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError("Figures need matplotlib: pip install 'stochloc[plot]'.") from None


def write_all(pictures: Mapping[str, "Picture"], folder: Path, tell: Callable[[str], None]) -> None:
    """Write pictures into a folder and name the files.

    Args:
        pictures: The pictures by the names of their files.
        folder: The folder to write to.
        tell: Called with every file.
    """
    from stochloc.viz.files import write

    for name, picture in pictures.items():
        for file in write(picture, folder, name):
            tell(str(file))
