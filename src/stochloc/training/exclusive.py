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


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder for the time of a block; the system releases it if the process is killed.

    On a file system without locks the block runs all the same, after a warning.

    Args:
        folder: The folder, which exists.

    Raises:
        ValueError: Another process has locked it.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"Another process is using {folder}: wait for it, or choose another --out."
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _REFUSALS:
            raise
        tell(
            f"stochloc: The file system of {folder} has no locks ({error}): make sure "
            "that no other process uses the folder."
        )
    try:
        yield
    finally:
        lock.release()
