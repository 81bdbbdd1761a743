"""FASTA as records: the sequences of letters, without their headers.

    >header of the first sequence
    ACGTAC
    GTNN

Lines of a sequence are joined, its small letters become capitals, and blanks in it are left out;
every other character is kept, N, gaps and stops too.
"""

from collections.abc import Iterator

from stochloc.data.records.base import Record, RecordSource
from stochloc.data.records.lines import numbered_lines
from stochloc.data.texts import TextSource, UnreadableTextError


def fasta_records(source: TextSource) -> RecordSource:
    """Return the sequences of a FASTA file.

    Args:
        source: the file.

    Returns:
        The records. Reading them raises an UnreadableTextError that names a header without a
        sequence, or letters before the first header.
    """
    facts = {**source.fingerprint, "records": "fasta"}
    return RecordSource(source.name, facts, lambda: _records(source))


def _records(source: TextSource) -> Iterator[Record]:
    header, lines = "", []
    for line in numbered_lines(source):
        if line.text.startswith(">"):
            if header:
                yield _record(header, lines)
            title = line.text[1:].split()
            header, lines = f"{line.name} (>{title[0] if title else ''})", []
        elif line.text.strip():
            if not header:
                raise UnreadableTextError(
                    f"{source.name} is not FASTA: {line.name} comes before any header; begin with "
                    "a line of > and a name."
                )
            lines.append("".join(line.text.split()).upper())
    if header:
        yield _record(header, lines)


def _record(header: str, lines: list[str]) -> Record:
    if not lines:
        raise UnreadableTextError(
            f"The header in {header} has no sequence below it; add the sequence or remove the "
            "header."
        )
    return Record("".join(lines), f"the sequence of {header}")
