"""Raw text as chunks of bytes, from plain or compressed files.

Knows files and compression. Does not know what the bytes mean: encodings, tokens and splits are
other modules' business.
"""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

# Small enough for a chunk's code points to stay in the processor's cache.
CHUNK_BYTES = 1 << 18

_UNREADABLE = (
    OSError,  # bz2 and gzip report corrupt data this way too
    EOFError,
    RuntimeError,  # zipfile: encrypted member, unknown compression
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)


class UnreadableTextError(ValueError):
    """A text cannot be had at all; the message names it and says what to do."""


@dataclass(frozen=True)
class TextSource:
    """A text that can be read from its beginning as often as needed.

    Attributes:
        name: what to call the text in messages.
        fingerprint: JSON-able facts; two texts with the same facts hold the same bytes.
        chunks: starts a new reading and returns the bytes piece by piece.
    """

    name: str
    fingerprint: Mapping[str, str | int]
    chunks: Callable[[], Iterator[bytes]]


@contextmanager
def naming(source: TextSource) -> Iterator[None]:
    """Name the text in the message of any ValueError about its contents.

    Args:
        source: the text being read inside the `with` block.

    Yields:
        Nothing.

    Raises:
        ValueError: what was raised inside, preceded by the name of the text.
    """
    try:
        yield
    except UnreadableTextError:
        raise
    except ValueError as error:
        raise ValueError(f"{source.name} cannot be encoded: {error}") from error


def file_source(path: str | Path) -> TextSource:
    """Return the text of one file, recognised by its path, size and time of change.

    Args:
        path: a text file; `.xz`, `.gz`, `.bz2` and `.zip` (one member) are unpacked while reading.

    Returns:
        A source that reads the file afresh every time it is asked.

    Raises:
        ValueError: the path is missing, is a folder, or the file is empty.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of one text file.")
    if not path.exists():
        raise ValueError(f"There is no file {path}; check the path.")
    status = path.stat()
    if status.st_size == 0:
        raise ValueError(f"{path} is empty; give a file with text in it.")
    fingerprint = {
        "path": str(path.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
    return TextSource(str(path), fingerprint, lambda: read_chunks(path))


def read_chunks(path: str | Path, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the unpacked bytes of a file, at most `chunk_bytes` at a time.

    Args:
        path: a file, unpacked while reading if its suffix says that it is compressed.
        chunk_bytes: the largest piece, in bytes.

    Yields:
        Non-empty pieces which, joined, are the text.

    Raises:
        UnreadableTextError: the file cannot be read or unpacked.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            while chunk := file.read(chunk_bytes):
                yield chunk
    except _UNREADABLE as error:
        raise UnreadableTextError(
            f"{path} cannot be read ({error}); check or replace the file."
        ) from error


def _open(path: Path) -> BufferedIOBase:
    match path.suffix.lower():
        case ".xz":
            return lzma.LZMAFile(path)
        case ".gz":
            return gzip.GzipFile(path)
        case ".bz2":
            return bz2.BZ2File(path)
        case ".zip":
            return _open_zip(path)
    return path.open("rb")


def _open_zip(path: Path) -> BufferedIOBase:
    archive = zipfile.ZipFile(path)
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        archive.close()
        raise zipfile.BadZipFile(f"it holds {len(members)} files where one is expected")
    # The member keeps the archive's file open; closing our handle leaves it the only owner.
    with archive:
        return cast(BufferedIOBase, archive.open(members[0]))
