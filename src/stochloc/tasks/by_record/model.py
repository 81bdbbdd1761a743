"""What identifies a model whose results go into a file."""

import hashlib
from pathlib import Path

from stochloc.tasks.lengths_file import LENGTHS
from stochloc.tasks.runs import TOKENIZER, Run
from stochloc.tasks.tuned import costs_file


def model_checksums(run: Run, tuned_for: str | None = None) -> dict[str, str]:
    """Return checksums of the files on which the results of a model depend.

    Args:
        run: The model.
        tuned_for: Name of the transition if its tuned path is walked.

    Returns:
        SHA-256 by the name of the file, and the length of a window.
    """
    files = [run.weights, *(run.folder / name for name in ("config.json", TOKENIZER, LENGTHS))]
    if tuned_for is not None:
        files.append(costs_file(run, tuned_for))
    sums = {file.name: _sha256(file) for file in files if file.is_file()}
    return {**sums, "window": str(run.length)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
