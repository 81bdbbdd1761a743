"""One process at a time in a folder: two that write the same checkpoint would ruin each other."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from stochloc.terminal import tell

LOCK = ".lock"
# What file systems without locks answer: network and user-space ones, mostly.
_REFUSALS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for the time of a block; the system lets it go if the process is killed.

    A file system that knows no locks is no reason not to work: then a person is warned.

    Args:
        folder: The folder, which exists.

    Raises:
        ValueError: Another process holds it.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"Another process is at work in {folder}: wait for it, or choose another --out."
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _REFUSALS:
            raise
        tell(
            f"stochloc: The file system of {folder} knows no locks ({error}): see to it yourself "
            "that no other process works there."
        )
    try:
        yield
    finally:
        lock.release()
