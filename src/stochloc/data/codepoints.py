"""UTF-8 bytes as Unicode code points, chunk by chunk.

Knows only Unicode; tokenizers decide which characters are tokens.
"""

import codecs
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import UInt32

_NUM_CODE_POINTS = 0x110000


def decode_utf8(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of UTF-8 chunks, which may be cut in the middle of a character.

    Args:
        chunks: pieces of one UTF-8 text.

    Yields:
        Pieces of the text, possibly empty.

    Raises:
        ValueError: the bytes are not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    for chunk in chunks:
        yield _decode(decoder, chunk, read, final=False)
        read += len(chunk)
    yield _decode(decoder, b"", read, final=True)


def _decode(decoder: codecs.IncrementalDecoder, chunk: bytes, read: int, final: bool) -> str:
    # Bytes of a character cut by the last chunk are still in the decoder.
    start = read - len(decoder.getstate()[0])
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The text is not UTF-8 at byte {start + error.start} ({error.reason}); convert it to "
            "UTF-8, or use the bytes tokenizer."
        ) from error


def code_points(text: str) -> UInt32[np.ndarray, " characters"]:
    """Return the Unicode code point of every character, lone surrogates included.

    Args:
        text: any string.

    Returns:
        Code points, shape (characters,), read-only.
    """
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def discover_alphabet(chunks: Iterable[bytes]) -> str:
    """Return the distinct characters of a text in the order of their code points.

    Args:
        chunks: UTF-8 bytes, cut anywhere.

    Returns:
        The sorted alphabet; empty for an empty text.

    Raises:
        ValueError: the bytes are not UTF-8.
    """
    seen = np.zeros(_NUM_CODE_POINTS, dtype=bool)
    for text in decode_utf8(chunks):
        seen[code_points(text)] = True
    return "".join(map(chr, np.flatnonzero(seen)))


def count_characters(text: bytes) -> int:
    """Return how many characters begin in a piece of UTF-8, which may be cut within characters.

    Args:
        text: the bytes; one that cannot be within a character counts as the beginning of one.

    Returns:
        The number of bytes that do not continue a character.
    """
    return int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8) & 0xC0 != 0x80))
