"""The parts that several processes write, and the one file that they make.

Under `torchrun` process r of n writes FILE.r-of-n, the records of its share. The process that ends
last joins the parts, a record of each in turn, and removes them. Nothing is sent between the
processes: the files say who is ready, so that a process which was killed may end another day.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import chain, zip_longest
from pathlib import Path

from stochloc.tasks.by_record.results_file import (
    About,
    about_file,
    is_complete,
    lock_of,
)
from stochloc.tasks.by_record.share import Processes
from stochloc.tasks.json_files import write_json
from stochloc.training.checkpoint import replacing
from stochloc.training.exclusive import InUseError, alone

LONGEST_S = 3600.0


def part_of(path: Path, rank: int, count: int) -> Path:
    """Return the file that one of several processes writes.

    Args:
        path: The file of all results.
        rank: The process, in `[0, count)`.
        count: How many there are.
    """
    return path if count == 1 else path.with_name(f"{path.name}.{rank + 1}-of-{count}")


def check_same_count(path: Path, processes: Processes) -> None:
    """Refuse to go on with other processes than those that began.

    Args:
        path: The file of all results.
        processes: Those of now.

    Raises:
        ValueError: The work was begun with another number of processes.
    """
    pattern = re.compile(rf"{re.escape(path.name)}\.[0-9]+-of-([0-9]+)")
    found = (pattern.fullmatch(other.name) for other in path.parent.iterdir())
    counts = {int(match[1]) for match in found if match}
    if path.exists() and processes.count > 1:
        counts.add(1)
    if others := counts - {processes.count}:
        begun = min(others)
        raise ValueError(
            f"The results for {path} were begun by {_processes(begun)}; go on with as many, or "
            "choose another --out."
        )


def joining_alone(path: Path) -> AbstractContextManager[None]:
    """Keep other processes from joining parts, and from opening them, for the time of a block.

    Args:
        path: The file of all results.

    Raises:
        InUseError: Another process is still joining them after an hour.
    """
    busy = f"Another process is joining the parts of {path}; try again when it has ended."
    return alone(lock_of(path), busy, LONGEST_S)


def join(path: Path, abouts: Sequence[About], about: About) -> bool:
    """Join the parts of several processes into one file, if all of them are ready.

    Args:
        path: The file of all results.
        abouts: What each part is of.
        about: What all results are of.

    Returns:
        Whether this process joined them; False if another did, is still at work, or has yet to go
        on.
    """
    count = len(abouts)
    parts = [part_of(path, rank, count) for rank in range(count)]
    with ExitStack() as locks:
        locks.enter_context(joining_alone(path))
        if is_complete(path, about):
            return False
        try:
            for part in parts:
                locks.enter_context(alone(lock_of(part), ""))
        except InUseError:
            return False
        if not all(map(is_complete, parts, abouts)):
            return False
        with ExitStack() as files, replacing(path) as whole:
            lines = [files.enter_context(part.open("rb")) for part in parts]
            with whole.open("wb") as file:
                num_lines = 0
                for line in _in_turn(lines):
                    file.write(line)
                    num_lines += 1
            write_json(about_file(path), {**about.to_dict(), "records": num_lines})
        for part in parts:
            for file in (part, about_file(part), lock_of(part)):
                file.unlink(missing_ok=True)
    return True


def _in_turn(files: Sequence[Iterator[bytes]]) -> Iterator[bytes]:
    return (line for line in chain.from_iterable(zip_longest(*files)) if line is not None)


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count} processes"
