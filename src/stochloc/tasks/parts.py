"""Which part of a text, or of sequences, a model is measured on."""

import os
from dataclasses import dataclass

import numpy as np

from stochloc.data import Corpus
from stochloc.data.mixtures import Mixture
from stochloc.data.records.sources import Reading, is_hugging_face
from stochloc.data.sequence_corpora import SequenceCorpus
from stochloc.data.sequences import Sequences
from stochloc.data.texts import STANDARD_INPUT
from stochloc.tasks.own_text import (
    choose_sequences,
    choose_text,
    is_own_name,
    own_sequences,
    own_text,
)
from stochloc.tasks.runs import Run

_AS_TEXT = Reading()


@dataclass(frozen=True, eq=False)
class TextPart:
    """A part of a text.

    Attributes:
        tokens: The tokens, 1-D.
        described: Which part of which text it is, in words.
        mixture: The texts that it is made of, if they are several.
    """

    tokens: np.ndarray
    described: str
    mixture: Mixture | None = None


@dataclass(frozen=True, eq=False)
class SequencePart:
    """Some of the sequences.

    Attributes:
        sequences: The sequences.
        described: Which part of which file they are, in words.
    """

    sequences: Sequences
    described: str


Part = TextPart | SequencePart


def part_to_evaluate(
    run: Run, data: str | None, split: str | None, reading: Reading = _AS_TEXT
) -> Part:
    """Return the part of a text to evaluate on, or of sequences if the model is one of those.

    Args:
        run: As `tokens_to_evaluate`.
        data: As `tokens_to_evaluate`.
        split: As `tokens_to_evaluate`.
        reading: As `tokens_to_evaluate`.

    Returns:
        The part.

    Raises:
        ValueError: As `tokens_to_evaluate`.
    """
    if run.lengths is None:
        return text_to_evaluate(run, data, split, reading)
    return sequences_to_evaluate(run, data, split, reading)


def tokens_to_evaluate(
    run: Run, data: str | None, split: str | None, reading: Reading = _AS_TEXT
) -> tuple[np.ndarray, str]:
    """Return the tokens to evaluate on, and a description of them.

    Args:
        run: Gives the tokenizer and the data the model was trained on.
        data: A file, a pipe, `-` or the name of a corpus; None for the run's own. A text whose
            tokens are those of the run's own text counts as that, whatever its name.
        split: "train", "valid", "test" or "all"; None for "test" of the run's own data and of
            corpora known by name, and for all of any other file.
        reading: The field of the data that is the text, if the user named one.

    Returns:
        Tokens, and a description, which says so if a part is not one of the run's own text.

    Raises:
        ValueError: The text cannot be read, has characters the model has never seen, or has the
            name of the run's own text but has changed, so that it is not known what the model has
            seen of it.
    """
    part = text_to_evaluate(run, data, split, reading)
    return part.tokens, part.described


def text_to_evaluate(
    run: Run, data: str | None, split: str | None, reading: Reading = _AS_TEXT
) -> TextPart:
    """Return the part of a text to evaluate on.

    Args:
        run: As `tokens_to_evaluate`.
        data: As `tokens_to_evaluate`.
        split: As `tokens_to_evaluate`.
        reading: As `tokens_to_evaluate`.

    Returns:
        The part; of all parts together it is not said which texts they are made of.

    Raises:
        ValueError: As `tokens_to_evaluate`.
    """
    corpus, is_own = (own_text(run), True) if data is None else choose_text(run, data, reading)
    part, described = _part(run, corpus, is_own, data, split)
    parts = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    if part == "all":
        return TextPart(np.concatenate(list(parts.values())), described)
    mixture = corpus.mixture if part == "train" else corpus.held_out.get(part)
    return TextPart(parts[part], described, mixture)


def sequences_to_evaluate(
    run: Run, data: str | None, split: str | None, reading: Reading = _AS_TEXT
) -> SequencePart:
    """Return the sequences to evaluate on, and a description of them.

    Args:
        run: Gives the tokenizer and the data the model was trained on, a model of sequences.
        data: As `tokens_to_evaluate`.
        split: As `tokens_to_evaluate`.
        reading: As `tokens_to_evaluate`.

    Returns:
        The part; sequences that are longer than the model's window are cut at their ends.

    Raises:
        ValueError: As `tokens_to_evaluate`.
    """
    corpus, is_own = (
        (own_sequences(run), True) if data is None else choose_sequences(run, data, reading)
    )
    part, described = _part(run, corpus, is_own, data, split)
    parts = corpus.parts
    chosen = Sequences.joined(list(parts.values())) if part == "all" else parts[part]
    return SequencePart(chosen, described)


def _part(
    run: Run, corpus: Corpus | SequenceCorpus, is_own: bool, data: str | None, split: str | None
) -> tuple[str, str]:
    """Return the name of the part to evaluate on, or "all", and a description of it."""
    if not is_own and split != "all" and is_own_name(run, str(data)):
        raise ValueError(
            f"{data} has changed since {run.folder} was trained on it, so it is not known which "
            "part the model has not seen: restore it, or evaluate all of it, with stochloc eval "
            "and --split all."
        )
    given = str(data)
    is_whole = given == STANDARD_INPUT or os.path.exists(given) or is_hugging_face(given)
    part = split or ("all" if is_whole and not is_own else "test")
    if part == "all":
        return part, f"all of {corpus.source}"
    if part == "test" and not len(corpus.test):
        part = "valid"
    strange = "" if is_own else ", which is not the text of the run"
    return part, f"the {part} part of {corpus.name}{strange}"
