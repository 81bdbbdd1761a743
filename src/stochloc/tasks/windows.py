"""Windows of a text, or sequences, for a model, and the denoiser to be asked about them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from stochloc.core import UNKNOWN, Denoiser, Framed
from stochloc.data import held_out_windows
from stochloc.data.labels import LabelledTexts, label_token
from stochloc.data.mixtures import Mixture
from stochloc.data.sequences import Sequences
from stochloc.tasks.runs import Run


class Windows(NamedTuple):
    """Windows of a text.

    Attributes:
        tokens: The windows, on the CPU, each behind its label if the text has classes.
        denoiser: Who is to be asked about them.
        is_labelled: Whether they have labels.
    """

    tokens: Int64[Tensor, "windows length"]
    denoiser: Denoiser
    is_labelled: bool


class AskedSequences(NamedTuple):
    """Sequences for a model.

    Attributes:
        sequences: The sequences, with their labels if they have classes.
        denoiser: Who is to be asked about rows of them, boundaries and labels included.
        is_labelled: Whether they have labels.
    """

    sequences: Sequences
    denoiser: Denoiser
    is_labelled: bool


def windows_for(
    run: Run,
    tokens: np.ndarray,
    limit: int | None = None,
    label: str | None = None,
    mixture: Mixture | None = None,
) -> Windows:
    """Return windows of a text that do not overlap, of the length that a run was trained on.

    Args:
        run: The model.
        tokens: The text, 1-D; that of a model with classes may be without labels.
        limit: At most this many, evenly spaced; None for all.
        label: The class of a text without labels, or the only one that is taken of a text with
            some; None leaves it open, or takes all.
        mixture: The texts that it is made of, whose shares the windows have; None for one text.

    Returns:
        The windows.

    Raises:
        ValueError: The text is shorter than a window, the limit is less than one, or there is no
            such class.
    """
    if run.tokenizer.labels:
        texts = LabelledTexts.of(tokens, run.tokenizer)
        if len(texts.labels):
            if label is not None:
                texts = texts.of_class(label_token(run.tokenizer, label))
            return Windows(texts.held_out(run.length, limit), run.model, True)
    denoiser, cut = run.denoiser(label), held_out_windows if mixture is None else mixture.held_out
    return Windows(cut(tokens, run.text_length, limit), denoiser, label is not None)


def sequences_for(run: Run, sequences: Sequences, label: str | None = None) -> AskedSequences:
    """Return sequences with the labels they are to have.

    Args:
        run: The model, one of sequences.
        sequences: Any number of them; those of a model with classes may be without labels.
        label: The class of sequences without labels, or the only one that is taken of sequences
            with some; None leaves it open, or takes all.

    Returns:
        The sequences.

    Raises:
        ValueError: There is no such class.
    """
    if label is not None:
        own, labels = label_token(run.tokenizer, label), sequences.labels
        is_own = None if labels is None else labels == own
        sequences = sequences.labelled(own) if is_own is None else sequences.taken(is_own)
    if run.tokenizer.labels and sequences.labels is None:
        return AskedSequences(sequences, Framed(run.model, (UNKNOWN,)), False)
    return AskedSequences(sequences, run.model, bool(run.tokenizer.labels))
