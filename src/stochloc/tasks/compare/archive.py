"""The archive of a comparison: `trials.jsonl`, one line of JSON for each finished trial.

A comparison writes the file beside its table, so results can be published with the data they were
computed from. Another comparison can start from it, and then treats these trials as finished.
"""

import json
from pathlib import Path

from stochloc.data import Corpus
from stochloc.tasks.compare.result import (
    RESULT,
    Result,
    parse_result,
    read_result,
    result_name,
)
from stochloc.training.checkpoint import replacing
from stochloc.training.records import to_json

TRIALS = "trials.jsonl"
TEXT = "text.json"


def write_trials(folder: Path) -> None:
    """Write the finished trials of a comparison to one file, sorted by name.

    Args:
        folder: The comparison's folder, with a folder for each trial in `trials`.

    Raises:
        ValueError: A result is damaged.
        OSError: The disk is full; an existing archive is left intact.
    """
    paths = sorted((folder / "trials").glob(f"*/{RESULT}"))
    lines = [to_json(read_result(path)) + "\n" for path in paths]
    with replacing(folder / TRIALS) as path:
        path.write_text("".join(lines), encoding="utf-8")


def read_trials(path: Path) -> list[Result]:
    """Return the finished trials in an archive.

    Args:
        path: A `trials.jsonl`, or the folder that holds one.

    Returns:
        The results.

    Raises:
        ValueError: A line is damaged.
        OSError: There is no such file.
    """
    path = path / TRIALS if path.is_dir() else path
    lines = path.read_bytes().splitlines()
    return [parse_result(line, f"Line {n} of {path}") for n, line in enumerate(lines, 1)]


def take_trials(source: Path, folder: Path) -> None:
    """Copy the finished trials of an archive into a comparison's folder, overwriting none.

    Args:
        source: A `trials.jsonl`, or the folder that holds one. If the fingerprint of its text is
            stored beside it, the text must be the same.
        folder: The comparison's folder, which holds the fingerprint of its own text.

    Raises:
        ValueError: A line is damaged, or the trials were run on another text.
        OSError: There is no such file, or the disk is full.
    """
    results = read_trials(source)
    note = (source if source.is_dir() else source.parent) / TEXT
    if note.exists() and _parsed(note) != _parsed(folder / TEXT):
        raise ValueError(f"The trials of {source} were run on another text.")
    for result in results:
        place = folder / "trials" / result_name(result)
        if not (place / RESULT).exists():
            place.mkdir(parents=True, exist_ok=True)
            with replacing(place / RESULT) as path:
                path.write_text(to_json(result, indent=2), encoding="utf-8")


def check_same_text(corpus: Corpus, folder: Path) -> None:
    """Note which tokens a folder's trials are about, and refuse it for others.

    Args:
        corpus: The tokens.
        folder: The comparison's folder, which exists.

    Raises:
        ValueError: The folder's trials are about other tokens, or its note is damaged.
    """
    path, note = folder / TEXT, corpus.fingerprint()
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(note, indent=2), encoding="utf-8")
        return
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another --out.") from error
    if kept != note:
        raise ValueError(f"{folder} holds a comparison on another text: choose another --out.")


def _parsed(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
