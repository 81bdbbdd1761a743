"""Finding and opening a checkpoint: a file, a folder or a model on the Hugging Face hub.

Only the header of a file is read here. A safetensors file is used as it is; a pickle is rewritten
as one by a process of its own (`unpickling`).
"""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError

from stochloc.importers import unpickling
from stochloc.importers.base import Checkpoint
from stochloc.nn.weights import read_shapes
from stochloc.tasks.hub import fetch, is_hub_name

CONFIG = "config.json"
MOST_CONFIG_BYTES = 1_000_000
# In a folder the first of these is taken.
USUAL_NAMES = ("model.safetensors", "pytorch_model.bin")
ZIP = b"PK\x03\x04"


@contextmanager
def opened_checkpoint(name: str) -> Iterator[Checkpoint]:
    """Provide a checkpoint for the time of a block.

    Args:
        name: A file, a folder with one, or the name of a model on the hub.

    Yields:
        The checkpoint, of which no tensor has been read.

    Raises:
        ValueError: There is no such checkpoint, or it is damaged or of another kind.
    """
    path = _find(name)
    facts = _facts(path.parent / CONFIG)
    with TemporaryDirectory() as folder:
        if _starts_with(path, ZIP):
            path = _unpickled(path, Path(folder) / USUAL_NAMES[0])
        try:
            shapes = read_shapes(path)
        except (SafetensorError, ValueError) as error:
            raise ValueError(
                f"{path} is neither a whole safetensors file nor what torch.save writes today "
                f"({error})."
            ) from error
        yield Checkpoint(name, path, shapes, facts)


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.exists():
        if not is_hub_name(name):
            raise ValueError(
                f"There is no checkpoint {name}: give a file, a folder, or a model on the Hugging "
                "Face hub as OWNER/NAME."
            )
        path = fetch(name)
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"{path} is neither a file nor a folder.")
    for usual in USUAL_NAMES:
        if (path / usual).is_file():
            return path / usual
    raise ValueError(f"{path} holds neither {' nor '.join(USUAL_NAMES)}: name the file itself.")


def _facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MOST_CONFIG_BYTES:
            raise ValueError("it is too large")
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path} is damaged: it is not a JSON object.")
    return facts


def _starts_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _unpickled(source: Path, target: Path) -> Path:
    _check_stored(source)
    # Isolated: neither the working directory nor the environment adds modules.
    reader = [sys.executable, "-I", str(unpickling.__file__), str(source.absolute()), str(target)]
    done = subprocess.run(reader, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"its reader ended with code {done.returncode}"
        raise ValueError(
            f"{source} cannot be imported: {reason}; save the model's state_dict() alone."
        )
    return target


def _check_stored(path: Path) -> None:
    """Refuse an archive that would grow when it is unpacked; torch writes none."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
    if total > path.stat().st_size:
        raise ValueError(f"{path} is compressed, which no file of torch.save is.")
