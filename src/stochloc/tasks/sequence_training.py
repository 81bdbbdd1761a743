"""Sequences on their way into training: the window they need, their lengths, what to know of them.

A window of sequences is as long as the longest of them needs, within reason, and an update has as
many tokens as the preset's: who has texts of 60 letters or of 300 need not choose a length.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from stochloc.data.labels import first_label, label_token
from stochloc.data.lengths import Lengths
from stochloc.data.sequence_corpora import SequenceCorpus
from stochloc.data.sequences import NUM_BOUNDARIES
from stochloc.tasks.counting import what_is_counted
from stochloc.tasks.generate import sequence_line
from stochloc.training.recipes import Recipe
from stochloc.training.texts import SequenceTexts

# Longer sequences than so many windows of the preset are cut, unless --length says otherwise.
MOST_WINDOWS = 4
# Windows of sequences, and how many of them fill an update, are multiples of this.
MULTIPLE = 8


def fitted(recipe: Recipe, corpus: SequenceCorpus, given: dict[str, Any]) -> dict[str, Any]:
    """Return what sequences decide of a recipe where the user does not.

    Args:
        recipe: The preset.
        corpus: What to train on.
        given: Attributes that the user named.

    Returns:
        Attributes of the training, unless a length is named: a window for the longest training
        sequence, at most `MOST_WINDOWS` of the preset's, and the batch that has as many tokens as
        the preset's.
    """
    training = recipe.training
    if "length" in given:
        return {}
    longest = corpus.train.longest + _num_given(recipe)
    length = min(math.ceil(longest / MULTIPLE) * MULTIPLE, MOST_WINDOWS * training.length)
    batches = round(training.batch_size * training.length / length / MULTIPLE)
    return {"length": length, "batch_size": max(1, batches) * MULTIPLE}


def most_tokens(recipe: Recipe) -> int:
    """Return how many tokens of text a sequence may have.

    Args:
        recipe: Its window holds the sequence with its boundaries and its label, if it has one, and
            its positions have coordinates for all of the sequence, if they have any.

    Returns:
        The number, at least 1.

    Raises:
        ValueError: The window is too short for any sequence.
    """
    most = recipe.training.length - _num_given(recipe)
    if most < 1:
        label = "" if _num_given(recipe) == NUM_BOUNDARIES else "a label, "
        raise ValueError(
            f"A window of sequences holds {label}both boundaries and at least one token: give a "
            f"--length of at least {_num_given(recipe) + 1}."
        )
    return min(most, len(recipe.model.places) or most)


def _num_given(recipe: Recipe) -> int:
    """Return how many tokens of a window are no text: both boundaries, and a label."""
    return recipe.model.num_before + recipe.model.num_after


def _check_places(corpus: SequenceCorpus, recipe: Recipe) -> None:
    """Refuse sequences of which the window holds more tokens than there are coordinates for."""
    given = _num_given(recipe)
    places, in_window = len(recipe.model.places), recipe.training.length - given
    longest = min(in_window, max(part.longest for part in corpus.parts.values()))
    if 0 < places < longest:
        raise ValueError(
            f"The positions are those of sequences of up to {places} tokens, but one has "
            f"{longest}: give coordinates for more places, or a --length of "
            f"{places + given} to cut longer ones."
        )


def lengths_of(corpus: SequenceCorpus, recipe: Recipe) -> Lengths:
    """Return the distribution of the lengths of training sequences, also within each class.

    Args:
        corpus: What to train on.
        recipe: Its window holds the longest sequence there can be.

    Returns:
        The distribution.
    """
    most, labels = most_tokens(recipe), corpus.train.labels
    cut = corpus.train.cut(most).lengths
    every = Lengths.of(cut, most)
    if labels is None:
        return every
    tokens = {name: label_token(corpus.tokenizer, name) for name in corpus.tokenizer.labels}
    return replace(
        every,
        of_classes={name: Lengths.of(cut[labels == own], most) for name, own in tokens.items()},
    )


def sequence_texts(corpus: SequenceCorpus, recipe: Recipe) -> SequenceTexts:
    """Return what a run of sequences trains on and is measured on.

    Args:
        corpus: The sequences; longer ones than the window are cut at their ends.
        recipe: How it is trained.

    Returns:
        The data.

    Raises:
        ValueError: There is no training sequence, or none of a class, the window is too short for
            any sequence, or a sequence has more tokens than there are places with coordinates.
    """
    corpus.check_training()
    _check_places(corpus, recipe)
    seed, tokenizer, lengths = recipe.training.seed, corpus.tokenizer, lengths_of(corpus, recipe)
    kept = corpus.cut(most_tokens(recipe))
    return SequenceTexts(
        kept.train,
        kept.valid,
        lambda model: sequence_line(model, tokenizer, lengths, seed),
        what_is_counted(tokenizer),
        tokenizer.decode_bytes,
        first_label(tokenizer) if tokenizer.labels else 0,
    )


def remarks(corpus: SequenceCorpus, recipe: Recipe) -> Iterator[str]:
    """Yield what a person should know before a model is trained on sequences.

    Args:
        corpus: What to train on.
        recipe: How it is trained.

    Yields:
        Sentences.
    """
    training, train = recipe.training, corpus.train
    yield (
        f"{len(train):,} training, {len(corpus.valid):,} validation and {len(corpus.test):,} test "
        f"sequences of {train.mean_length:.1f} tokens on average, {train.longest} at most; an "
        f"update has as many as fill {training.batch_size} windows of {training.length} tokens."
    )
    yield from corpus.remarks(most_tokens(recipe))
