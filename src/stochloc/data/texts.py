"""Raw text as chunks of bytes, from plain or compressed files, pipes and standard input.

A text is identified by its bytes, never by its name or date. A text that can be read only once,
from a pipe for instance, is copied to a temporary file first. Knows files and compression, but
nothing of encodings, tokens or splits.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import stat
import sys
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import cast

STANDARD_INPUT = "-"

# Small enough for a chunk's code points to fit in the processor's cache.
CHUNK_BYTES = 1 << 18

_UNREADABLE = (
    OSError,  # bz2 and gzip report corrupt data this way too
    EOFError,
    RuntimeError,  # zipfile: encrypted member, unknown compression
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)


PACKINGS = (".xz", ".gz", ".bz2", ".zip")


# Told of a file's name, of the bytes read so far as they lie on the disk, and of all its bytes.
Watch = Callable[[str, int, int], None]


def watching_nothing(name: str, read: int, size: int) -> None:
    """Do nothing, however far a file is read."""


class UnreadableTextError(ValueError):
    """A text cannot be read at all; the message names it and says what to do."""


class UnknownCharactersError(ValueError):
    """A text has characters that are not in the alphabet."""


@dataclass(frozen=True)
class TextSource:
    """A text that can be read from its beginning as often as needed.

    Attributes:
        name: the name of the text in messages.
        fingerprint: JSON values; two texts with equal fingerprints have the same bytes.
        chunks: starts reading from the beginning and returns the bytes in pieces.
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
        ValueError: the error raised inside the block, with the name of the text in front.
    """
    try:
        yield
    except UnreadableTextError:
        raise
    except ValueError as error:
        is_unknown = isinstance(error, UnknownCharactersError)
        kind = UnknownCharactersError if is_unknown else ValueError
        raise kind(f"{source.name} cannot be encoded: {error}") from error


def file_source(path: str | Path, watch: Watch = watching_nothing) -> TextSource:
    """Return the text of one file, pipe or standard input, identified by its SHA-256.

    Args:
        path: a text file; `.xz`, `.gz`, `.bz2` and `.zip` (one member) are unpacked while reading.
            `-` is standard input; it and named pipes are read to their end immediately.
        watch: is told how far the file is read: at once, and with every piece of it.

    Returns:
        A source that can be read as often as needed.

    Raises:
        UnreadableTextError: the path is missing, cannot be read, is a folder or a device, or is
            empty.
    """
    if str(path) == STANDARD_INPUT:
        if sys.stdin is None or sys.stdin.closed:
            raise UnreadableTextError("Standard input is closed; give the path of a text file.")
        return _copied("standard input", sys.stdin.buffer.read, watch)
    path = Path(path)
    status = _status(path)
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableTextError(f"{path} is a folder; give the path of one text file.")
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        with _reading(path), path.open("rb") as pipe:
            return _copied(str(path), pipe.read, watch)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableTextError(f"{path} is a device; give the path of one text file.")
    if status.st_size == 0:
        raise UnreadableTextError(f"{path} is empty; give a file with text in it.")
    sha256 = _sha256(path)
    packing = path.suffix.lower() if path.suffix.lower() in PACKINGS else ""
    watch(str(path), 0, status.st_size)
    return TextSource(
        str(path), {"sha256": sha256, "packing": packing}, lambda: _unchanged(path, sha256, watch)
    )


def check_there(path: str | Path) -> None:
    """Refuse a path at which nothing is, or an empty file.

    Args:
        path: what a user gave as a text or a folder of texts.

    Raises:
        UnreadableTextError: it is missing, may not be looked at, or is an empty file.
    """
    status = _status(Path(path))
    if stat.S_ISREG(status.st_mode) and not status.st_size:
        raise UnreadableTextError(f"{path} is empty; give a file with text in it.")


def is_read_once(path: str | Path) -> bool:
    """Return whether a text can be read only once, as standard input and pipes can.

    Args:
        path: what a user gave as a text.

    Returns:
        True for `-` and for a path that exists but is neither a file nor a folder.
    """
    if str(path) == STANDARD_INPUT:
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_chunks(
    path: str | Path, chunk_bytes: int = CHUNK_BYTES, watch: Watch = watching_nothing
) -> Iterator[bytes]:
    """Yield the unpacked bytes of a file, at most `chunk_bytes` at a time.

    Args:
        path: a file, decompressed while reading if its suffix is that of a compressed file.
        chunk_bytes: the largest piece, in bytes.
        watch: is told how far the file is read, with every piece of it.

    Yields:
        Non-empty pieces which, joined, are the text.

    Raises:
        UnreadableTextError: the file cannot be read or unpacked.
    """
    path = Path(path)
    with (
        _reading(path),
        path.open("rb") as packed,
        _unpacked(packed, path.suffix.lower()) as file,
    ):
        size = os.fstat(packed.fileno()).st_size
        for piece in _pieces(file.read, chunk_bytes):
            watch(str(path), packed.tell(), size)
            yield piece


def _pieces(read: Callable[[int], bytes], chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    while chunk := read(chunk_bytes):
        yield chunk


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UnreadableTextError(f"There is no file {path}; check the path.") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UnreadableTextError:
    if isinstance(error, PermissionError):
        return UnreadableTextError(
            f"{path} cannot be read: you lack the permission; ask its owner, or give a copy."
        )
    return UnreadableTextError(f"{path} cannot be read ({error}); check or replace the file.")


def _sha256(path: Path) -> str:
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unchanged(path: Path, sha256: str, watch: Watch) -> Iterator[bytes]:
    """Yield a file's text and raise an error at its end if the file has changed."""
    yield from read_chunks(path, watch=watch)
    if _sha256(path) != sha256:
        raise UnreadableTextError(f"{path} changed while it was read; try again.")


def _copied(name: str, read: Callable[[int], bytes], watch: Watch) -> TextSource:
    """Copy a text that can be read only once; the copy is deleted along with the source."""
    copy, digest = tempfile.TemporaryFile(), hashlib.sha256()  # noqa: SIM115
    for chunk in _pieces(read):
        digest.update(chunk)
        copy.write(chunk)
    if not (size := copy.tell()):
        raise UnreadableTextError(f"{name[0].upper()}{name[1:]} is empty; give a text.")
    watch(name, 0, size)

    def chunks() -> Iterator[bytes]:
        # Concurrent readers each keep their own position.
        place = 0
        while copy.seek(place) >= 0 and (chunk := copy.read(CHUNK_BYTES)):
            place += len(chunk)
            watch(name, place, size)
            yield chunk

    weakref.finalize(chunks, copy.close)
    return TextSource(name, {"sha256": digest.hexdigest(), "packing": ""}, chunks)


def _unpacked(packed: BufferedReader, packing: str) -> BufferedIOBase:
    match packing:
        case ".xz":
            return lzma.LZMAFile(packed)
        case ".gz":
            return gzip.GzipFile(fileobj=packed)
        case ".bz2":
            return bz2.BZ2File(packed)
        case ".zip":
            return _member(zipfile.ZipFile(packed))
    return packed


def _member(archive: zipfile.ZipFile) -> BufferedIOBase:
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        raise zipfile.BadZipFile(f"it holds {len(members)} files where one is expected")
    return cast(BufferedIOBase, archive.open(members[0]))
