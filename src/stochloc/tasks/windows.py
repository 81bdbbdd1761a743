"""Windows of a text for a model, and the denoiser that is to be asked about them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from stochloc.core import Denoiser
from stochloc.data import held_out_windows
from stochloc.data.labels import LabelledTexts
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


def windows_for(run: Run, tokens: np.ndarray, limit: int | None = None) -> Windows:
    """Return windows of a text that do not overlap, of the length that a run was trained on.

    Args:
        run: The model.
        tokens: The text, 1-D; that of a model with classes may be without labels, its class is then
            left open.
        limit: At most this many, evenly spaced; None for all.

    Returns:
        The windows.

    Raises:
        ValueError: The text is shorter than a window, or the limit is less than one.
    """
    if run.tokenizer.labels:
        texts = LabelledTexts.of(tokens, run.tokenizer)
        if len(texts.labels):
            return Windows(texts.held_out(run.length, limit), run.model, True)
    return Windows(held_out_windows(tokens, run.text_length, limit), run.denoiser(), False)
