"""Whether a folder can take a new run."""

from pathlib import Path

from stochloc.tasks.agreement import SIGHT
from stochloc.tasks.lengths_file import LENGTHS
from stochloc.tasks.runs import MODEL, RECIPE, TOKENIZER
from stochloc.training.checkpoint import FILE_NAME
from stochloc.training.exclusive import LOCK

# What a start that was cut off may leave, with our lock among it: the recipe is written last.
_WRITTEN = (TOKENIZER, LENGTHS, FILE_NAME, MODEL, "config.json")
_BEGINNINGS = {LOCK, SIGHT, *_WRITTEN, *(f".{name}.partial" for name in (*_WRITTEN, RECIPE))}


def check_free(folder: Path) -> None:
    """Refuse a folder that holds anything but what a start that was cut off left there.

    Args:
        folder: Where a run is to be, whether it exists or not.

    Raises:
        ValueError: It holds a run, or something else.
    """
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
    if names and not (LOCK in names and names <= _BEGINNINGS):
        go_on = "continue its run with --resume, or " if RECIPE in names else ""
        raise ValueError(f"{folder} already exists and is not empty: {go_on}choose another --out.")
