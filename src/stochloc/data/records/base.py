"""Records: the texts that a file holds, one by one, each with a name for messages.

A record is a line of a text file, a field of a table's row, an entry of a FASTA file. Whoever wants
one long text joins them, a line break between any two; whoever wants sequences takes each by
itself. Records are read in their order as often as needed, in memory that does not grow with their
number. A record that cannot be read is a fault, which ends the reading unless whoever reads can go
on without that record.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice

from stochloc.data.texts import TextSource, UnreadableTextError

_RECORDS_AT_ONCE = 4096


@dataclass(frozen=True)
class Record:
    """One text of a file.

    Attributes:
        text: the text, without a line break at its end; may be empty.
        name: where it stands, for messages: "line 3 of names.txt".
    """

    text: str
    name: str


# A record, or why this one cannot be read although those after it can.
RecordOrFault = Record | UnreadableTextError


@dataclass(frozen=True)
class RecordSource:
    """Records that can be read from the first one as often as needed.

    Attributes:
        name: the name of the file in messages.
        fingerprint: JSON values; two sources with equal fingerprints have the same records.
        rows: starts reading from the first one, and goes on after a fault. Raises what ends it.
    """

    name: str
    fingerprint: Mapping[str, str | int]
    rows: Callable[[], Iterator[RecordOrFault]]

    def records(self) -> Iterator[Record]:
        """Yield the records from the first one.

        Yields:
            The records.

        Raises:
            UnreadableTextError: the first fault, or what ends the reading.
        """
        for row in self.rows():
            if isinstance(row, UnreadableTextError):
                raise row
            yield row


def chained(sources: Sequence[RecordSource], name: str) -> RecordSource:
    """Return the records of several sources, one source after the other.

    Args:
        sources: any number of them.
        name: the name of all of them in messages.

    Returns:
        Their records, identified by the fingerprints of the sources in their order.
    """
    facts = json.dumps([dict(source.fingerprint) for source in sources], sort_keys=True)
    return RecordSource(
        name,
        {"sources": sha256(facts.encode()).hexdigest()},
        lambda: (row for source in sources for row in source.rows()),
    )


def joined(source: RecordSource) -> TextSource:
    """Return the records of a source as one text, a line break between any two.

    Args:
        source: the records.

    Returns:
        A text, identified by the fingerprint of the records.
    """

    def chunks() -> Iterator[bytes]:
        texts = (record.text for record in source.records())
        yield from (text.encode() for text in islice(texts, 1))
        lines = (f"\n{text}" for text in texts)
        for line in lines:
            yield "".join(chain([line], islice(lines, _RECORDS_AT_ONCE))).encode()

    return TextSource(source.name, {**source.fingerprint, "joined": "line breaks"}, chunks)
