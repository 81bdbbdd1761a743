"""The lines of a text as records.

Lines end with LF, CRLF or CR; a byte order mark at the beginning is no part of the first. Empty
lines are records too, except those at the very end.
"""

from collections.abc import Iterable, Iterator

from stochloc.data.normalisation import MARK
from stochloc.data.records.base import Record, RecordOrFault, RecordSource
from stochloc.data.texts import TextSource, UnreadableTextError


def line_records(source: TextSource, errors: str = "strict") -> RecordSource:
    """Return the lines of a text, one record each.

    Args:
        source: a text in UTF-8.
        errors: "surrogateescape" to keep bytes that are not UTF-8 as lone surrogates.

    Returns:
        The lines. A line that is not UTF-8 is an UnreadableTextError that names it.
    """
    facts = {**source.fingerprint, "records": "lines"}
    return RecordSource(source.name, facts, lambda: _records(source, errors))


def numbered_lines(source: TextSource) -> Iterator[Record]:
    """Yield the lines of a text, named by their numbers, with the empty ones at the end.

    Args:
        source: a text in UTF-8.

    Yields:
        The lines, without a byte order mark.

    Raises:
        UnreadableTextError: a line is not UTF-8.
    """
    for line in _decoded(source, "strict"):
        if isinstance(line, UnreadableTextError):
            raise line
        yield line


def _decoded(source: TextSource, errors: str) -> Iterator[RecordOrFault]:
    for number, line in enumerate(_lines(source.chunks()), 1):
        name = f"line {number} of {source.name}"
        try:
            text = line.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            yield UnreadableTextError(
                f"{name[0].upper()}{name[1:]} is not UTF-8 ({error.reason}); give a text, in UTF-8."
            )
            continue
        yield Record(text.removeprefix(MARK) if number == 1 else text, name)


def _records(source: TextSource, errors: str) -> Iterator[RecordOrFault]:
    first_empty = num_empty = 0
    for number, row in enumerate(_decoded(source, errors), 1):
        if isinstance(row, Record) and not row.text:
            first_empty, num_empty = first_empty or number, num_empty + 1
            continue
        for empty in range(first_empty, first_empty + num_empty):
            yield Record("", f"line {empty} of {source.name}")
        first_empty = num_empty = 0
        yield row


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    pieces: list[bytes] = []  # of a line that has not ended yet
    held = b""  # a CR at the end of a chunk, which may be the first half of a CRLF
    for chunk in chunks:
        text = held + chunk
        held = b"\r" if text.endswith(b"\r") else b""
        text = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = text.split(b"\n")
        pieces.append(first)
        if others:
            yield b"".join(pieces)
            yield from others[:-1]
            pieces = others[-1:]
    yield b"".join(pieces)
