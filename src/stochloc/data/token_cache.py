"""The cache folder of tokens: its location, its size limit, and the removal of old files.

The least recently used entries are removed first. Readers that have mapped a file into memory keep
its contents after it is unlinked; where the system forbids unlinking such files (Windows), they
stay until they are free. Temporary files of killed processes are removed by the next process: a
writer locks its file, so a file that can be locked has no writer. Knows nothing of texts and
tokens.
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
# A file younger than this may be open in a writer that has not locked it yet.
YOUNG_S = 2
# Where files cannot be locked, a file not written to for this long is taken to have no writer.
OLD_S = 86_400


def home_folder() -> Path:
    """Return the folder for files that can be recreated or downloaded again: `~/.cache/stochloc`.

    Returns:
        The folder, which need not exist; without a home directory, one in `$XDG_CACHE_HOME`, or
        else this user's own in the directory for temporary files.

    Raises:
        ValueError: there is no home directory, and the temporary folder belongs to someone else.
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
            f"There is no home directory, and {folder} belongs to someone else; set STOCHLOC_CACHE "
            "to a folder you can write to."
        )
    return folder


def cache_folder(cache_dir: str | Path | None) -> Path:
    """Return the cache folder, created if necessary.

    Args:
        cache_dir: the caller's choice; None: `$STOCHLOC_CACHE`, or else `home_folder()`.

    Returns:
        The folder, which exists.

    Raises:
        ValueError: it cannot be created.
    """
    folder = Path(cache_dir or os.environ.get("STOCHLOC_CACHE") or home_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(folder, error.strerror) from error
    return folder


def unusable(folder: Path, reason: str | None) -> ValueError:
    """Return the error that a folder cannot be used as the cache.

    Args:
        folder: the folder.
        reason: why it cannot be used.

    Returns:
        The error.
    """
    return ValueError(
        f"The cache folder {folder} cannot be used ({reason}); set STOCHLOC_CACHE to a folder you "
        "can write to."
    )


def most_bytes() -> int:
    """Return the size limit of the folder: `$STOCHLOC_CACHE_BYTES`, or else 16 GiB.

    Returns:
        Bytes, at least 0.

    Raises:
        ValueError: the variable is not a whole number.
    """
    wanted = os.environ.get("STOCHLOC_CACHE_BYTES") or str(MOST_BYTES)
    if not wanted.isascii() or not wanted.isdigit():
        raise ValueError(f"STOCHLOC_CACHE_BYTES must be a number of bytes, not {wanted!r}.")
    return int(wanted)


def prune(folder: Path, newest: str) -> None:
    """Remove the least recently used entries until the others fit.

    Args:
        folder: the cache folder.
        newest: the name of an entry that is kept however large it is.

    Raises:
        ValueError: `$STOCHLOC_CACHE_BYTES` is not a whole number.
    """
    free, sizes, used = most_bytes(), defaultdict[str, int](int), defaultdict[str, float](float)
    for path, status in _files(folder, ".tokens", ".json"):
        sizes[path.stem] += status.st_size
        used[path.stem] = max(used[path.stem], status.st_mtime)
    free -= sizes.pop(newest, 0)
    for name in sorted(sizes, key=lambda name: used[name], reverse=True):
        free -= sizes[name]
        if free < 0:
            # The description first: without it the tokens are not an entry.
            for suffix in (".json", ".tokens"):
                _remove(folder / f"{name}{suffix}")


def sweep(folder: Path) -> None:
    """Remove the temporary files of killed processes.

    Args:
        folder: a folder that `write_atomically` writes to.
    """
    for path, status in _files(folder, PARTIAL):
        age_s = time.time() - status.st_mtime
        if age_s > YOUNG_S and _has_no_writer(path, age_s):
            _remove(path)


@contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its final name only once it is completely written.

    Args:
        path: its final name; the folder exists.

    Yields:
        A temporary file in the same folder, removed if anything fails, or by `sweep` after a kill.
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
    """Lock an open file and return True, or return False if another process has locked it."""
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
    with suppress(OSError):  # In use on Windows, or without permission: another process may.
        path.unlink(missing_ok=True)
