"""What a user names as data, as records or as one text: the table of formats by suffix.

The format follows from the name alone, never from the contents: `.jsonl` is JSON Lines, `.csv` a
table, and a name with no suffix of the table is text, a record a line. A pipe has no name; it is
text, or with a field JSON Lines.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stochloc.data.records.base import RecordOrFault, RecordSource, chained, joined
from stochloc.data.records.delimited import comma_separated_records, tab_separated_records
from stochloc.data.records.fasta import fasta_records
from stochloc.data.records.hugging_face import PREFIX, hugging_face_records
from stochloc.data.records.json_files import json_array_records, json_lines_records
from stochloc.data.records.lines import line_records
from stochloc.data.records.parquet import parquet_records
from stochloc.data.texts import (
    PACKINGS,
    TextSource,
    UnreadableTextError,
    Watch,
    check_there,
    file_source,
    is_read_once,
    watching_nothing,
)
from stochloc.terminal import tell

WithFields = Callable[[TextSource, str | None], RecordSource]
WithoutFields = Callable[[TextSource], RecordSource]

# Formats that are text themselves: they are read by their fields only if records are asked for.
TEXT_WITH_FIELDS: dict[str, WithFields] = {
    ".jsonl": json_lines_records,
    ".ndjson": json_lines_records,
    ".json": json_array_records,
    ".csv": comma_separated_records,
    ".tsv": tab_separated_records,
}
WITH_FIELDS: dict[str, WithFields] = {**TEXT_WITH_FIELDS, ".parquet": parquet_records}
WITHOUT_FIELDS: dict[str, WithoutFields] = dict.fromkeys(
    (".fa", ".fasta", ".faa", ".fna"), fasta_records
)
FORMATS = (*WITH_FIELDS, *WITHOUT_FIELDS)
# Formats that are read as a whole before their first record.
_READ_AT_ONCE = (".json", ".parquet")


@dataclass(frozen=True)
class Reading:
    """How what a user names as data is read.

    Attributes:
        field: the field of a table or of JSON objects that is the text; None: there is no choice.
        split: the split of a Hugging Face data set; None: "train", or the only one.
        watch: is told how far the files are read, where they are read part by part.
    """

    field: str | None = None
    split: str | None = None
    watch: Watch = watching_nothing

    def records(self, data: str | Path | TextSource) -> RecordSource:
        """Return the records of what a user names.

        Args:
            data: a file, a folder, a pipe, `-`, `hf:NAME`, or a text that has been opened.

        Returns:
            The records, at least one, read as often as needed.

        Raises:
            UnreadableTextError: the data cannot be read, or the field does not fit the format.
        """
        return _never_empty(self._records(data))

    def text(self, data: str | Path | TextSource) -> TextSource:
        """Return what a user names as one text.

        Args:
            data: a file, a folder, a pipe, `-`, `hf:NAME`, or a text that has been opened.

        Returns:
            A text file's own bytes. Records joined by line breaks for a format that is not text,
            for a folder, and where a field is named.

        Raises:
            UnreadableTextError: the data cannot be read, or the field does not fit the format.
        """
        if self.is_of_records(data):
            return joined(self.records(data))
        self._refuse_split(data)
        if isinstance(data, TextSource):
            return data
        if suffix_of(data) in TEXT_WITH_FIELDS:
            _tell_once(f"stochloc: {data} is read as text; name one of its fields with --field.")
        return file_source(data, self.watch)

    def check(self, data: str) -> None:
        """Refuse a file that is missing or empty, without reading it; a pipe is left alone.

        Args:
            data: a file, a folder, a pipe, `-` or `hf:NAME`.

        Raises:
            UnreadableTextError: there is no such file, or nothing is in it.
        """
        if not (is_hugging_face(data) or is_read_once(data)):
            check_there(data)

    def is_of_records(self, data: str | Path | TextSource) -> bool:
        """Return whether data is read as records, rather than as the text of its file.

        Args:
            data: what a user names as data.

        Returns:
            True for a format that is not text, for a folder, and where a field is named.
        """
        if self.field is not None:
            return True
        if isinstance(data, TextSource) or is_read_once(data):
            return False
        suffix = suffix_of(data)
        is_format = suffix in FORMATS and suffix not in TEXT_WITH_FIELDS
        return is_format or is_hugging_face(data) or os.path.isdir(data)

    def _records(self, data: str | Path | TextSource) -> RecordSource:
        if is_hugging_face(data):
            return hugging_face_records(str(data), self.field, self.split)
        self._refuse_split(data)
        if isinstance(data, TextSource) or is_read_once(data):
            source = data if isinstance(data, TextSource) else file_source(data, self.watch)
            if self.field is None:
                return line_records(source)
            return json_lines_records(source, self.field)
        if os.path.isdir(data):  # False where it may not be looked at
            return self._of_folder(Path(data))
        suffix = suffix_of(data)
        source = file_source(data, watching_nothing if suffix in _READ_AT_ONCE else self.watch)
        if suffix in WITH_FIELDS:
            return WITH_FIELDS[suffix](source, self.field)
        if self.field is not None:
            raise UnreadableTextError(
                f"{data} has no fields, so no {self.field!r}: leave out --field, or give a file "
                f"whose name ends with {', '.join(WITH_FIELDS)}."
            )
        return WITHOUT_FIELDS.get(suffix, line_records)(source)

    def _of_folder(self, folder: Path) -> RecordSource:
        files = _files_in(folder)
        kinds = {suffix_of(file) for file in files}
        if not files:
            raise UnreadableTextError(f"The folder {folder} holds no files; give another.")
        if len(kinds) > 1:
            named = ", ".join(sorted(kind or "no suffix" for kind in kinds))
            raise UnreadableTextError(
                f"The folder {folder} holds files of several kinds ({named}); keep one kind, or "
                "give a file."
            )
        return chained([self._records(file) for file in files], str(folder))

    def _refuse_split(self, data: str | Path | TextSource) -> None:
        if self.split is not None:
            name = data.name if isinstance(data, TextSource) else data
            raise UnreadableTextError(
                f"{name} has no splits: --hf-split is for {PREFIX}NAME, a Hugging Face data set."
            )


def record_source(data: str | Path | TextSource, field: str | None = None) -> RecordSource:
    """Return the records of what a user names: see `Reading.records`.

    Args:
        data: a file, a folder, a pipe, `-`, `hf:NAME`, or a text that has been opened.
        field: the field that is the text; None where there is no choice.

    Returns:
        The records, at least one, read as often as needed.

    Raises:
        UnreadableTextError: the data cannot be read, or the field does not fit the format.
    """
    return Reading(field).records(data)


def is_hugging_face(data: str | Path | TextSource) -> bool:
    """Return whether data is named as a Hugging Face data set is, `hf:NAME`."""
    return not isinstance(data, TextSource) and str(data).startswith(PREFIX)


def suffix_of(data: str | Path) -> str:
    """Return the suffix that tells the format of a file, that of its packing left out.

    Args:
        data: a path.

    Returns:
        In small letters, with its dot; empty where there is none.
    """
    path = Path(data)
    path = path.with_suffix("") if path.suffix.lower() in PACKINGS else path
    return path.suffix.lower()


def _files_in(folder: Path) -> list[Path]:
    """Return the files in a folder and in folders within it, sorted, without hidden ones."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


@cache
def _tell_once(line: str) -> None:
    tell(line)


def _never_empty(source: RecordSource) -> RecordSource:
    def rows() -> Iterator[RecordOrFault]:
        found = False
        for row in source.rows():
            found = True
            yield row
        if not found:
            raise UnreadableTextError(f"{source.name} holds no texts; give a file with some.")

    return RecordSource(source.name, source.fingerprint, rows)
