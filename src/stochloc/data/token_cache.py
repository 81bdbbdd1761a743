"""The folder in which tokens are kept: where it is, how large it may grow, what is swept from it.

The entries that were used longest ago go first. A file that is mapped into memory can lose its name
without loss to who reads it; where the system forbids that (Windows), it stays until it is free.
What a killed process was writing is removed by the next one that comes: a writer locks its file, so
a file that can be locked has no writer. Knows nothing of texts and tokens.
"""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where an open file cannot be removed anyway.
    fcntl = None

MOST_BYTES = 1 << 34
PARTIAL = ".partial"
# A file this young may have a writer who has not locked it yet.
YOUNG_S = 2
# Where files cannot be locked, one that nobody has written to for so long has no writer.
OLD_S = 86_400


def home_folder() -> Path:
    """Return the folder for what can be made or fetched again: `~/.cache/stochloc`.

    Returns:
        The folder, which need not exist; without a home, that of `$XDG_CACHE_HOME`, or else one
        of this user's own among the temporary files.

    Raises:
        ValueError: there is no home and the folder among the temporary files is someone else's.
    """
    try:
        return Path.home() / ".cache" / "stochloc"
    except RuntimeError:  # Neither HOME nor an entry among the users.
        if named := os.environ.get("XDG_CACHE_HOME"):
            return Path(named) / "stochloc"
    return _temporary_home()


def _temporary_home() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"stochloc-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != user:
        raise ValueError(
            f"There is no home folder, and {folder} belongs to someone else; set STOCHLOC_CACHE to "
            "a folder you can write to."
        )
    return folder


def cache_folder(cache_dir: str | Path | None) -> Path:
    """Return the folder of the tokens, made if need be.

    Args:
        cache_dir: what the caller asked for; None: `$STOCHLOC_CACHE`, or else `home_folder()`.

    Returns:
        The folder, which exists.

    Raises:
        ValueError: it cannot be made.
    """
    folder = Path(cache_dir or os.environ.get("STOCHLOC_CACHE") or home_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(folder, error.strerror) from error
    return folder


def unusable(folder: Path, reason: str | None) -> ValueError:
    """Return the error that says that tokens cannot be kept in a folder.

    Args:
        folder: the folder.
        reason: why not.

    Returns:
        The error.
    """
    return ValueError(
        f"The cache folder {folder} cannot be used ({reason}); set STOCHLOC_CACHE to a folder you "
        "can write to."
    )


def most_bytes() -> int:
    """Return how large the folder may grow: `$STOCHLOC_CACHE_BYTES`, or else 16 GiB.

    Returns:
        Bytes, at least 0.

    Raises:
        ValueError: the variable is not a whole number.
    """
    wanted = os.environ.get("STOCHLOC_CACHE_BYTES") or str(MOST_BYTES)
    if not wanted.isascii() or not wanted.isdigit():
        raise ValueError(f"STOCHLOC_CACHE_BYTES is a number of bytes, not {wanted!r}.")
    return int(wanted)


def prune(folder: Path, newest: str) -> None:
    """Remove the entries that were used longest ago until the others fit.

    Args:
        folder: the folder of the tokens.
        newest: the name of an entry that stays however large it is.

    Raises:
        ValueError: `$STOCHLOC_CACHE_BYTES` is not a whole number.
    """
    room, sizes, used = most_bytes(), defaultdict[str, int](int), defaultdict[str, float](float)
    for path, status in _files(folder, ".tokens", ".json"):
        sizes[path.stem] += status.st_size
        used[path.stem] = max(used[path.stem], status.st_mtime)
    room -= sizes.pop(newest, 0)
    for name in sorted(sizes, key=lambda name: used[name], reverse=True):
        room -= sizes[name]
        if room < 0:
            # The facts first: tokens without them are no entry.
            for suffix in (".json", ".tokens"):
                _remove(folder / f"{name}{suffix}")


def sweep(folder: Path) -> None:
    """Remove what killed processes have left half-written.

    Args:
        folder: a folder that `write_atomically` writes to.
    """
    for path, status in _files(folder, PARTIAL):
        age_s = time.time() - status.st_mtime
        if age_s > YOUNG_S and _has_no_writer(path, age_s):
            _remove(path)


@contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes its name only once it is written in full.

    Args:
        path: the name it will have; its folder exists.

    Yields:
        A temporary file beside it, removed if anything fails, or by `sweep` after a kill.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=PARTIAL)
    try:
        with open(handle, "wb") as file:
            _lock(handle)
            yield file
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _files(folder: Path, *suffixes: str) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        if path.suffix in suffixes:
            with suppress(FileNotFoundError):  # Another process has just removed it.
                yield path, path.lstat()


def _lock(handle: int) -> bool:
    """Lock an open file unless another process has; whether no other process has."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _has_no_writer(path: Path, age_s: float) -> bool:
    try:
        with path.open("rb") as file:
            return _lock(file.fileno()) or age_s > OLD_S
    except OSError:
        return False


def _remove(path: Path) -> None:
    with suppress(OSError):  # In use on Windows, or not ours to remove: the next one may.
        path.unlink(missing_ok=True)
