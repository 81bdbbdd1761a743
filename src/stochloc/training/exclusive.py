"""One process at a time in a folder: two that write the same checkpoint would corrupt it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from stochloc.terminal import tell

LOCK = ".lock"
# Errors of file systems without locks, mostly network and user-space ones.
_REFUSALS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class InUseError(ValueError):
    """Another process has what this one needs for itself."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder for the time of a block; the system releases it if the process is killed.

    On a file system without locks the block runs all the same, after a warning.

    Args:
        folder: The folder, which exists.

    Raises:
        InUseError: Another process has locked it.
    """
    in_use = f"Another process is using {folder}: wait for it, or choose another --out."
    with alone(folder / LOCK, in_use):
        yield


@contextmanager
def alone(path: Path, in_use: str, timeout_s: float = 0) -> Iterator[None]:
    """Lock a file for the time of a block; the system releases it if the process is killed.

    On a file system without locks the block runs all the same, after a warning.

    Args:
        path: The file, which is empty and made if it does not exist; its folder exists.
        in_use: The message if another process has locked it.
        timeout_s: How long to wait for that process, in seconds.

    Raises:
        InUseError: Another process has locked it.
    """
    lock = FileLock(path, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout:
        raise InUseError(in_use) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _REFUSALS:
            raise
        tell(
            f"stochloc: The file system of {path.parent} has no locks ({error}): make sure "
            "that no other process uses the folder."
        )
    try:
        yield
    finally:
        lock.release()
