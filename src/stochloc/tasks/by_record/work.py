"""What is done with records, apart from where they come from and where results go."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from stochloc.data.records import Record, RecordOrFault
from stochloc.data.texts import UnreadableTextError

ERROR = "error"
# The values of a record in a file of results, without its number.
Result = dict[str, Any]


@runtime_checkable
class RecordWork(Protocol):
    """A value that turns records into results; what it gives for one does not depend on others.

    Attributes:
        name: The command.
        most_records: Records that are worked on together; what a kill can cost.
        most_characters: A batch is full as soon as its records have as many.
    """

    @property
    def name(self) -> str:
        """The command."""
        ...

    @property
    def most_records(self) -> int:
        """Records that are worked on together."""
        ...

    @property
    def most_characters(self) -> int:
        """Characters of a full batch."""
        ...

    def results(self, records: Sequence[Record]) -> list[Result]:
        """Return the results of some records, in their order.

        Args:
            records: At least one.

        Returns:
            JSON values of each; `refusal` of those that cannot be worked on.
        """
        ...


class Numbered(NamedTuple):
    """A record, or why it cannot be read, and its number in the file, counted from 1."""

    number: int
    row: RecordOrFault


def refusal(record: Record, error: ValueError) -> Result:
    """Return the result of a record that cannot be worked on.

    Args:
        record: The record.
        error: Why.

    Returns:
        A single value, the reason with the name of the record.
    """
    return {ERROR: f"{capital(record.name)}: {' '.join(str(error).split())}"}


def capital(name: str) -> str:
    """Return the name of a record for the beginning of a sentence."""
    return f"{name[:1].upper()}{name[1:]}"


def one_by_one(records: Iterable[Record], one: Callable[[Record], Result]) -> list[Result]:
    """Return the results of records that are worked on separately.

    Args:
        records: The records.
        one: Returns the result of one; raises a ValueError if there is none.

    Returns:
        The results, `refusal` where the function raised.
    """

    def result(record: Record) -> Result:
        try:
            return one(record)
        except ValueError as error:
            return refusal(record, error)

    return list(map(result, records))


def batches(
    rows: Iterator[Numbered], most_records: int, most_characters: int
) -> Iterator[list[Numbered]]:
    """Yield records in batches that depend on the records alone: every start makes the same.

    Args:
        rows: The records.
        most_records: A batch has no more.
        most_characters: A batch ends with the record that brings it to so many.

    Yields:
        Batches of at least one record.

    Raises:
        UnreadableTextError: As the records do, after those before it were yielded.
    """
    held, characters = list[Numbered](), 0
    try:
        for numbered in rows:
            held.append(numbered)
            characters += len(numbered.row.text) if isinstance(numbered.row, Record) else 0
            if len(held) == most_records or characters >= most_characters:
                yield held
                held, characters = [], 0
    except UnreadableTextError:
        if held:
            yield held
        raise
    if held:
        yield held


def results_of(work: RecordWork, batch: Sequence[Numbered]) -> list[Mapping[str, Any]]:
    """Return the results of a batch, with the numbers of its records.

    Args:
        work: What to do.
        batch: The records, faults among them.

    Returns:
        JSON values, the number first.
    """
    readable = [numbered.row for numbered in batch if isinstance(numbered.row, Record)]
    results = iter(work.results(readable) if readable else [])
    return [
        {
            "record": number,
            **({ERROR: str(row)} if isinstance(row, UnreadableTextError) else next(results)),
        }
        for number, row in batch
    ]
