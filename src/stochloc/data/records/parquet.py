"""Parquet as records, read by the package pyarrow, which is an extra."""

import importlib
from collections.abc import Iterator
from typing import Any

from stochloc.data.records.base import Record, RecordSource
from stochloc.data.records.columns import chosen_column
from stochloc.data.records.fields import field_record
from stochloc.data.texts import TextSource, UnreadableTextError

_ROWS_AT_ONCE = 4096


def parquet_records(source: TextSource, field: str | None) -> RecordSource:
    """Return one column of a Parquet table, a record a row.

    Args:
        source: the file, whose packed bytes are read into memory; the rows are unpacked in parts.
        field: the column, or a field within it; None where only one column holds texts.

    Returns:
        The records. Reading them raises an UnreadableTextError that names the row at fault.

    Raises:
        UnreadableTextError: the package pyarrow is not installed.
    """
    arrow, parquet = package("pyarrow"), package("pyarrow.parquet")
    facts = {**source.fingerprint, "records": "parquet", "field": field or ""}
    return RecordSource(source.name, facts, lambda: _records(arrow, parquet, source, field))


def package(name: str) -> Any:  # noqa: ANN401  (a module)
    """Return a package that reads tables.

    Args:
        name: of the module.

    Returns:
        The module.

    Raises:
        UnreadableTextError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnreadableTextError(
            f"These data need the package {name.partition('.')[0]}; install it with: pip install "
            "'stochloc[data]'"
        ) from error


def is_text(arrow: Any, kind: Any) -> bool:  # noqa: ANN401  (of pyarrow)
    """Return whether the values of a column are texts.

    Args:
        arrow: the package pyarrow.
        kind: the type of the column, pyarrow's.
    """
    types = arrow.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _records(arrow: Any, parquet: Any, source: TextSource, field: str | None) -> Iterator[Record]:  # noqa: ANN401
    contents, number = b"".join(source.chunks()), 0
    try:
        table = parquet.ParquetFile(arrow.BufferReader(contents))
        kinds = {column.name: is_text(arrow, column.type) for column in table.schema_arrow}
        column, within = chosen_column(kinds, field, source.name)
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[column]):
            for row in batch.to_pylist():
                number += 1
                yield field_record(row, within, f"row {number} of {source.name}")
    except (arrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UnreadableTextError(
            f"{source.name} cannot be read as Parquet ({reason}); check or replace the file."
        ) from error
