"""The column of a typed table that holds the text."""

from collections.abc import Mapping

from stochloc.data.records.fields import listed
from stochloc.data.texts import UnreadableTextError


def chosen_column(are_text: Mapping[str, bool], field: str | None, name: str) -> tuple[str, str]:
    """Return which column to read, and which field of its rows is the text.

    Args:
        are_text: whether the column holds texts, by name.
        field: what the user named; None where only one column holds texts.
        name: the name of the table in messages.

    Returns:
        The column, and the field, which is the column or within it.

    Raises:
        UnreadableTextError: there is no such column, or none was named and none or several hold
            texts.
    """
    if field is not None:
        for column in (field, field.partition(".")[0]):
            if column in are_text:
                return column, field
        raise UnreadableTextError(
            f"{name} has no field {field!r}; there are {listed(are_text)}: name one with --field."
        )
    texts = [column for column, is_text in are_text.items() if is_text]
    if len(texts) == 1:
        return texts[0], texts[0]
    if not texts:
        raise UnreadableTextError(
            f"{name} has no column of text; there are {listed(are_text) or 'no columns'}: name a "
            "field with --field, or give other data."
        )
    raise UnreadableTextError(
        f"{name} has several columns of text: {listed(texts)}; name one with --field."
    )
