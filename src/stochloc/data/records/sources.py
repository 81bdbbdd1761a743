"""What a user names as data, as records: the table of formats by suffix."""

from pathlib import Path

from stochloc.data.records.base import RecordSource
from stochloc.data.records.lines import line_records
from stochloc.data.texts import TextSource, file_source


def record_source(data: str | Path | TextSource, field: str | None = None) -> RecordSource:
    """Return the records of what a user names.

    Args:
        data: a file, a pipe or `-`, or a text that has been opened.
        field: which field of a table is the text; None where there is no choice.

    Returns:
        The records, read as often as needed.

    Raises:
        ValueError: the file cannot be read, or the field does not fit its format.
    """
    source = data if isinstance(data, TextSource) else file_source(data)
    if field is not None:
        raise ValueError(f"{source.name} is text, which has no field {field!r}; leave out --field.")
    return line_records(source)
