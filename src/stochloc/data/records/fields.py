"""The field of a row that is its text.

A row is what a line of JSON Lines, a row of a table or an example of a data set holds: a text, or
an object with fields. A field within a field is named with dots, `user.name`.
"""

import re
from collections.abc import Iterable, Mapping

from stochloc.data.records.base import Record
from stochloc.data.texts import UnreadableTextError

_MOST_NAMES = 12
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def field_record(row: object, field: str | None, name: str) -> Record:
    """Return the text of a row.

    Args:
        row: a JSON value.
        field: the field that holds the text; None where the row itself is a text.
        name: where the row stands, for messages: "line 3 of names.jsonl".

    Returns:
        The record.

    Raises:
        UnreadableTextError: the row has no such field, or it is not a text; the message names the
            row and the fields there are.
    """
    value = row if field is None else _within(row, field, name)
    if not isinstance(value, str):
        raise UnreadableTextError(_complaint(value, field, name))
    if _HALF_CHARACTER.search(value):
        raise UnreadableTextError(
            f"{_capital(name)} holds one half of a surrogate pair, which is no character; mend it."
        )
    return Record(value, name)


def listed(names: Iterable[str]) -> str:
    """Return names for a sentence, the first of them if there are many."""
    known = list(names)
    more = f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
    return f"{', '.join(known[:_MOST_NAMES])}{more}"


def _within(row: object, field: str, name: str) -> object:
    value = row
    rest = field
    while isinstance(value, Mapping):
        if rest in value:
            return value[rest]
        part, dot, rest = rest.partition(".")
        if not dot or part not in value:
            break
        value = value[part]
    if not isinstance(row, Mapping):
        raise UnreadableTextError(
            f"{_capital(name)} has no fields, so no {field!r}: it is {_kind(row)}; leave out "
            "--field or mend the file."
        )
    raise UnreadableTextError(
        f"{_capital(name)} has no field {field!r}; there {_are(row)}: name one with --field."
    )


def _complaint(value: object, field: str | None, name: str) -> str:
    if field is not None:
        return f"The field {field!r} of {name} is {_kind(value)} and no text; name another."
    if isinstance(value, Mapping):
        return f"{_capital(name)} has several fields; there {_are(value)}: name one with --field."
    return f"{_capital(name)} is {_kind(value)}; a text or an object with a text is needed."


def _are(row: Mapping[str, object]) -> str:
    if not row:
        return "is none"
    return f"{'is' if len(row) == 1 else 'are'} {listed(map(str, row))}"


def _kind(value: object) -> str:
    if isinstance(value, int | float):
        return f"the value {value}" if isinstance(value, bool) else f"the number {value}"
    for kind, name in ((str, "a text"), (list, "a list"), (Mapping, "an object")):
        if isinstance(value, kind):
            return name
    return "empty (null)" if value is None else f"of type {type(value).__name__}"


def _capital(name: str) -> str:
    return f"{name[0].upper()}{name[1:]}"
