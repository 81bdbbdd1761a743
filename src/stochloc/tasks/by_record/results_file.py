"""A file of results, a JSON object a line, that is continued after a kill.

Beside the file stands another, NAME.about.json, written before the first line: what the results are
of. Only a file whose description says the same is continued, and one without a description is
somebody else's. Lines are written in whole batches; of a kill, a full disk or a loss of power at
most the last line is torn, and it is cut off.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from stochloc.tasks.by_record.share import Share
from stochloc.tasks.by_record.work import ERROR
from stochloc.tasks.json_files import read_json, write_json
from stochloc.training.exclusive import alone
from stochloc.training.records import to_json
from stochloc.version import __version__

SUFFIXES = (".jsonl", ".ndjson")
_RECORDS = "records"


@dataclass(frozen=True)
class About:
    """What results are of; equal values make equal results.

    Attributes:
        command: The command.
        model: Checksums of the files of the model.
        text: What identifies the records.
        settings: The flags that matter, by name.
        share: Which of the records.
        version: Of this package.
    """

    command: str
    model: Mapping[str, str]
    text: Mapping[str, str | int]
    settings: Mapping[str, Any]
    share: Share
    version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values = {**vars(self), "share": str(self.share)}
        return json.loads(to_json(values))

    def difference(self, kept: Mapping[str, Any]) -> str | None:
        """Return in what a description differs from this one.

        Args:
            kept: JSON values, as `to_dict` gives.

        Returns:
            Words for "of another ..."; None if it does not.
        """
        own = self.to_dict()
        changed = [name for name in own if kept.get(name) != own[name]]
        if not changed:
            return None
        if changed[0] != "settings" or not isinstance(kept.get("settings"), Mapping):
            return changed[0]
        flags = sorted(own["settings"].keys() | kept["settings"].keys())
        differing = [f for f in flags if own["settings"].get(f) != kept["settings"].get(f)]
        return f"--{differing[0].replace('_', '-')}"


def check_name(path: Path) -> None:
    """Refuse a file that cannot take results, before anything is computed for it.

    Args:
        path: What the user gave.

    Raises:
        ValueError: It does not end with .jsonl, is a folder, or in a folder that does not exist.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{path} would hold a JSON object a line; give it a name that ends with .jsonl."
        )
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: give a file in a folder that exists.")


def about_file(path: Path) -> Path:
    """Return the description's file.

    Args:
        path: The file of results.
    """
    return path.with_name(f"{path.name}.about.json")


def lock_of(path: Path) -> Path:
    """Return the file whose lock says that a process is writing.

    Args:
        path: The file of results.
    """
    return path.with_name(f".{path.name}.lock")


def is_complete(path: Path, about: About) -> bool:
    """Return whether a file has a result for every record.

    Args:
        path: The file of results.
        about: What they would be of.

    Raises:
        ValueError: The file is of something else.
    """
    kept = _kept(path, about)
    if kept is None or kept.get(_RECORDS) is None or not path.is_file():
        return False
    return count_results(path, about)[0] == kept[_RECORDS]


def count_results(path: Path, about: About) -> tuple[int, int]:
    """Return how many results a file holds, and how many of them are errors.

    Args:
        path: The file of results.
        about: What they are of.

    Raises:
        ValueError: A line before the last one is no result.
    """
    with path.open("rb") as file:
        return _whole_lines(file, path, about.share)[:2]


class ResultsFile:
    """A file of results that is being written; `opened` makes one.

    Attributes:
        num_lines: Results it holds.
        num_errors: How many of them are errors.
    """

    def __init__(self, file: BinaryIO, path: Path, about: About) -> None:
        self._file, self.path, self._about = file, path, about
        self.num_lines, self.num_errors, end = _whole_lines(file, path, about.share)
        file.truncate(end)
        file.seek(end)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, about: About) -> Iterator[Self]:
        """Open a file of results for one process, after those it holds already.

        Args:
            path: The file; it need not exist.
            about: What the results are of.

        Yields:
            The file.

        Raises:
            ValueError: It holds something else, or another process is writing to it.
        """
        busy = f"Another process is writing to {path}: wait for it, or choose another --out."
        with alone(lock_of(path), busy):
            if _kept(path, about) is None:
                write_json(about_file(path), {**about.to_dict(), _RECORDS: None})
            path.touch()
            with path.open("rb+") as file:
                yield cls(file, path, about)

    def append(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Write results and hand them to the system, which keeps them if this process is killed.

        Args:
            results: JSON values, the number of the record first.
        """
        self._file.write(b"".join(map(line_of, results)))
        self._file.flush()
        self.num_lines += len(results)
        self.num_errors += sum(ERROR in result for result in results)

    def complete(self) -> None:
        """Note that there is a result for every record."""
        os.fsync(self._file.fileno())
        write_json(about_file(self.path), {**self._about.to_dict(), _RECORDS: self.num_lines})


def line_of(result: Mapping[str, Any]) -> bytes:
    """Return the line of a result.

    Args:
        result: JSON values, the number of the record first.

    Returns:
        JSON in UTF-8 with its line break; in ASCII if it holds bytes that are not UTF-8.
    """
    text = to_json(result)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(json.loads(text))}\n".encode()


def _kept(path: Path, about: About) -> dict[str, Any] | None:
    """Return the description of a file, None if there is neither."""
    if not about_file(path).exists():
        if path.exists():
            raise ValueError(
                f"{path} exists and is not a file that {about.command} has begun; "
                "choose another --out."
            )
        return None
    kept = read_json(about_file(path))
    if (what := about.difference(kept)) is not None:
        raise ValueError(
            f"{path} holds results of another {what}; repeat the command that began it, or choose "
            "another --out."
        )
    return kept


def _whole_lines(file: BinaryIO, path: Path, share: Share) -> tuple[int, int, int]:
    """Return the number of results and of errors among them, and where the last one ends."""
    num_lines = num_errors = end = 0
    file.seek(0)
    for line in file:
        begin = b'{"record": %d, ' % share.number(num_lines)
        if not (line.startswith(begin) and line.endswith(b"}\n")):
            if file.readline():
                raise ValueError(
                    f"Line {num_lines + 1} of {path} is not what was written there; restore it, or "
                    "choose another --out."
                )
            break
        num_lines, end = num_lines + 1, end + len(line)
        num_errors += line.startswith(f'"{ERROR}"'.encode(), len(begin))
    return num_lines, num_errors, end
