"""The text8 corpus: where it is stored, where it is downloaded from, and its checksums.

text8 is the first 10⁸ characters of English Wikipedia of 3 March 2006, cleaned to 27 symbols
(Mahoney 2006). The checksums are those of the published `text8.zip` and of the file within.
Knows nothing of tokens or splits.
"""

import hashlib
import logging
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from stochloc.data.texts import CHUNK_BYTES, TextSource, UnreadableTextError, read_chunks
from stochloc.data.token_cache import home_folder, sweep, write_atomically

URL = "http://mattmahoney.net/dc/text8.zip"
ZIP_BYTES = 31_344_016
ZIP_SHA256 = "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232"
TEXT_BYTES = 100_000_000
TEXT_SHA256 = "6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7"

_log = logging.getLogger(__name__)


def text8_source(timeout_s: float = 30.0) -> TextSource:
    """Return the text8 corpus, found on disk or downloaded, and verified while it is read.

    The file is searched for and read only if its tokens are not yet in the cache.

    Args:
        timeout_s: how long to wait for the server, in seconds.

    Returns:
        The source of 10⁸ bytes: lower-case letters and single spaces.
    """
    fingerprint = {"corpus": "text8", "sha256": TEXT_SHA256}
    return TextSource("text8", fingerprint, lambda: _read_text8(timeout_s))


def _read_text8(timeout_s: float) -> Iterator[bytes]:
    path = _find() or _download(timeout_s)
    advice = f"remove {path} so that it can be downloaded again."
    return verified(read_chunks(path), TEXT_BYTES, TEXT_SHA256, f"{path} is not text8", advice)


def verified(
    chunks: Iterator[bytes], num_bytes: int, sha256: str, complaint: str, advice: str
) -> Iterator[bytes]:
    """Yield the bytes unchanged and raise an error at their end if they are not the expected ones.

    Args:
        chunks: the bytes.
        num_bytes: the expected number of bytes.
        sha256: the expected SHA-256, in hexadecimal digits.
        complaint: the first half of the error message.
        advice: its second half: what to do.

    Yields:
        The chunks as they come.

    Raises:
        UnreadableTextError: size or checksum differ.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if size != num_bytes:
        raise UnreadableTextError(
            f"{complaint}: it has {size} bytes instead of {num_bytes}; {advice}"
        )
    if digest.hexdigest() != sha256:
        raise UnreadableTextError(f"{complaint}: its SHA-256 is {digest.hexdigest()}; {advice}")


def _folders() -> list[Path]:
    named = os.environ.get("STOCHLOC_DATA")
    default = home_folder() / "corpora"
    return [Path(named), default] if named else [default]


def _find() -> Path | None:
    candidates = (folder / name for folder in _folders() for name in ("text8", "text8.zip"))
    return next((path for path in candidates if path.is_file()), None)


def _download(timeout_s: float) -> Path:
    target = _folders()[0] / "text8.zip"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnreadableTextError(
            f"The folder {target.parent} for text8 cannot be created ({error.strerror}); set "
            "STOCHLOC_DATA to a folder you can write to."
        ) from error
    sweep(target.parent)
    _log.info("downloading %s (%d MB) to %s", URL, ZIP_BYTES // 10**6, target)
    complaint = f"The file sent by {URL} is not text8.zip"
    advice = f"try again later, or put the file text8.zip into the folder {target.parent}."
    chunks = verified(_receive(target, timeout_s), ZIP_BYTES, ZIP_SHA256, complaint, advice)
    with write_atomically(target) as file:
        file.writelines(chunks)
    return target


def _receive(target: Path, timeout_s: float) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(URL, timeout=timeout_s) as response:
            while chunk := response.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise UnreadableTextError(
            f"text8 could not be downloaded from {URL} ({error}); put the file text8.zip, or the "
            f"file text8 unpacked from it, into the folder {target.parent}."
        ) from error
