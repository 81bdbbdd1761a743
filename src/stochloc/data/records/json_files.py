"""JSON as records: a value a line (JSON Lines), or one array."""

import json
from collections.abc import Iterator

from stochloc.data.records.base import Record, RecordOrFault, RecordSource
from stochloc.data.records.fields import field_record
from stochloc.data.records.lines import numbered_lines
from stochloc.data.texts import TextSource, UnreadableTextError


def json_lines_records(source: TextSource, field: str | None) -> RecordSource:
    """Return the records of JSON Lines: a text or an object a line; blank lines are passed over.

    Args:
        source: the file.
        field: which field of the objects is the text; None where the lines are texts.

    Returns:
        The records. A line at fault is an UnreadableTextError that names it.
    """
    return RecordSource(source.name, _facts(source, field), lambda: _of_lines(source, field))


def json_array_records(source: TextSource, field: str | None) -> RecordSource:
    """Return the records of a JSON array of texts or of objects, which is read into memory.

    Args:
        source: the file.
        field: which field of the objects is the text; None where the elements are texts.

    Returns:
        The records. Reading them raises an UnreadableTextError that names the element at fault.
    """
    return RecordSource(source.name, _facts(source, field), lambda: _of_array(source, field))


def _facts(source: TextSource, field: str | None) -> dict[str, str | int]:
    return {**source.fingerprint, "records": "json", "field": field or ""}


def _of_lines(source: TextSource, field: str | None) -> Iterator[RecordOrFault]:
    for line in numbered_lines(source):
        if line.text.strip():
            try:
                yield _of_line(line, field)
            except UnreadableTextError as fault:
                yield fault


def _of_line(line: Record, field: str | None) -> Record:
    try:
        row = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        raise UnreadableTextError(
            f"{line.name[0].upper()}{line.name[1:]} is not JSON ({error}); give one JSON value a "
            "line."
        ) from None
    return field_record(row, field, line.name)


def _of_array(source: TextSource, field: str | None) -> Iterator[Record]:
    try:
        rows = json.loads(b"".join(source.chunks()))
    except (ValueError, RecursionError) as error:
        raise UnreadableTextError(
            f"{source.name} is not JSON ({error}); if every line is a JSON value of its own, call "
            "it .jsonl."
        ) from None
    if not isinstance(rows, list):
        raise UnreadableTextError(
            f"{source.name} does not hold a JSON array; give an array of texts or of objects."
        )
    for number, row in enumerate(rows, 1):
        yield field_record(row, field, f"element {number} of {source.name}")
