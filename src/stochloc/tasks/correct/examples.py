"""Examples of errors: a file whose records hold a text as it was read, and the right one."""

from collections.abc import Iterator
from pathlib import Path

from stochloc.core import UNKNOWN
from stochloc.data.labels import first_given
from stochloc.data.normalisation import normalise
from stochloc.data.records import record_source
from stochloc.data.records.sources import WITH_FIELDS, is_hugging_face, suffix_of
from stochloc.data.texts import UnreadableTextError
from stochloc.tasks.correct.confusions import Confusions, Pair, learn_confusions
from stochloc.tasks.correct.correct import read_tokens
from stochloc.tasks.runs import Run

FIELDS = ("read", "right")


def confusions_of(run: Run, data: str | Path, fields: tuple[str, str] = FIELDS) -> Confusions:
    """Learn what errors look like from a file of examples.

    Args:
        run: The model whose tokens the errors are of.
        data: A table, JSON Lines or another format with fields that `train --data` takes.
        fields: The fields of the text as read, and of the right one.

    Returns:
        The errors. Where the model does not know a part of a text, nothing is learned from it.

    Raises:
        ValueError: The file cannot be read, has no such fields or no right text, or the model's
            texts are in slots.
    """
    if run.tokenizer.slots is not None:
        raise ValueError(
            "Errors are not learned from examples for a model with slots; leave the examples out, "
            "or take a model trained without --slots."
        )
    size = first_given(run.tokenizer)
    return learn_confusions(_pairs(run, data, fields), size, run.tokenizer.vocabulary_size - size)


def _pairs(run: Run, data: str | Path, fields: tuple[str, str]) -> Iterator[Pair]:
    """Yield the tokens of every pair of texts, -1 for what the model does not know."""
    if not (is_hugging_face(data) or suffix_of(data) in WITH_FIELDS):
        raise ValueError(
            f"{data} has no fields, and examples of errors have two, {fields[0]!r} and "
            f"{fields[1]!r}: give a file whose name ends with {', '.join(WITH_FIELDS)}."
        )
    try:
        sides = (record_source(data, field).records() for field in fields)
        for read, right in zip(*sides, strict=True):
            yield _tokens(run, read.text), _tokens(run, right.text)
    except UnreadableTextError as error:
        # The records do not know what the field was asked for.
        raise ValueError(str(error).replace("--field", "--example-fields")) from error


def _tokens(run: Run, text: str) -> list[int]:
    tokens, unknown = read_tokens(run, normalise(text, run.tokenizer))
    ids = tokens.clone()
    ids[list(unknown)] = UNKNOWN
    return ids.tolist()
