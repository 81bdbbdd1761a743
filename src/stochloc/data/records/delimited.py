"""Tables of text as records: `.csv` with commas, `.tsv` with tabs.

The first row names the columns.
"""

import csv
import sys
from collections.abc import Iterator
from functools import partial

from stochloc.data.records.base import Record, RecordOrFault, RecordSource
from stochloc.data.records.fields import listed
from stochloc.data.records.lines import numbered_lines
from stochloc.data.texts import TextSource, UnreadableTextError


def delimited_records(delimiter: str, source: TextSource, field: str | None) -> RecordSource:
    """Return one column of a table, a record a row; blank rows are passed over.

    Args:
        delimiter: what stands between two columns.
        source: the file; fields may be quoted with ", also to hold line breaks.
        field: the column, by its name in the first row, or by its number, from 1; None for a table
            of one column.

    Returns:
        The records. A row of another width is an UnreadableTextError that names it; broken quotes
        raise one.
    """
    facts = {**source.fingerprint, "records": f"table {delimiter!r}", "field": field or ""}
    return RecordSource(source.name, facts, lambda: _records(delimiter, source, field))


comma_separated_records = partial(delimited_records, ",")
tab_separated_records = partial(delimited_records, "\t")


def _records(delimiter: str, source: TextSource, field: str | None) -> Iterator[RecordOrFault]:
    rows = _rows(delimiter, source)
    _, header = next(rows, (0, []))
    column = _column(header, field, source.name)
    for number, row in rows:
        if row:
            name = f"row {number} of {source.name}"
            if len(row) != len(header):
                yield UnreadableTextError(
                    f"{name[0].upper()}{name[1:]} has {len(row)} columns where the first row has "
                    f"{len(header)}; mend it, or quote a field that holds {delimiter!r}."
                )
                continue
            yield Record(row[column], name)


def _rows(delimiter: str, source: TextSource) -> Iterator[tuple[int, list[str]]]:
    # The default limit of 131,072 characters is for the whole process.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    lines = (f"{line.text}\n" for line in numbered_lines(source))
    rows = enumerate(csv.reader(lines, delimiter=delimiter, strict=True), 1)
    number = 0
    while True:
        try:
            number, row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise UnreadableTextError(
                f"Row {number + 1} of {source.name} is not that of a table ({error}); mend its "
                "quotes."
            ) from None
        yield number, row


def _column(header: list[str], field: str | None, name: str) -> int:
    if field is None:
        if len(header) == 1:
            return 0
        raise UnreadableTextError(
            f"{name} has several columns: {listed(header)}; name one with --field."
        )
    if field in header:
        return header.index(field)
    if field.isdecimal() and 1 <= int(field) <= len(header):
        return int(field) - 1
    raise UnreadableTextError(
        f"{name} has no column {field!r}; there are {listed(header)}: name one with --field."
    )
