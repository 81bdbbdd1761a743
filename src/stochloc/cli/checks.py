"""Checks of what a user gave, made before a model is loaded.

They need the tokenizer of a run at most. Tasks check the same again for their callers in Python.
"""

from typing import TYPE_CHECKING

from stochloc.cli.options import typed_label

if TYPE_CHECKING:
    from stochloc.data import Tokenizer
    from stochloc.data.records import Reading


def check_data(data: str | None, reading: "Reading") -> None:
    """Refuse data that is missing or empty, unless it is a corpus by name or texts in classes.

    Args:
        data: What the user gave as data; None for the run's own.
        reading: How it is read.

    Raises:
        ValueError: There is no such file, or nothing is in it.
    """
    from stochloc.data.corpora import is_corpus_name

    if data is not None and not is_corpus_name(data) and "=" not in data:
        reading.check(data)


def check_label(tokenizer: "Tokenizer", label: str | None) -> None:
    """Refuse a class that a model does not know.

    Args:
        tokenizer: The model's.
        label: What the user gave for --label; None for nothing.

    Raises:
        ValueError: There is no such class.
    """
    from stochloc.data.labels import label_token

    if (name := typed_label(label)) is not None:
        label_token(tokenizer, name)
