"""The texts of a training run: what it trains on, and what it is measured on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stochloc.core import UNKNOWN
from stochloc.data import draw_windows
from stochloc.nn import LocalizationModel

SaySample = Callable[[LocalizationModel], str]
DrawWindows = Callable[[np.ndarray, int, int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Texts:
    """What a run trains and is measured on.

    Attributes:
        train: Tokens of the training text, 1-D.
        valid: Tokens of the held-out text, 1-D.
        say_sample: Draws a text from the model, to be shown with every held-out bound.
        draw_windows: Draws so many training windows of such a length from a text.
        first_label: The first token that is a label of a class; 0 when there are no classes.
        counted: In words, what held-out bits "per token" count.
    """

    train: np.ndarray
    valid: np.ndarray
    say_sample: SaySample
    draw_windows: DrawWindows = draw_windows
    first_label: int = 0
    counted: str = "tokens of text"

    def labels_in(self, rows: Tensor) -> Tensor:
        """Return the labels among tokens, which are given and not scored, and -1 elsewhere."""
        is_text = rows < self.first_label if self.first_label else torch.ones_like(rows).bool()
        return rows.masked_fill(is_text, UNKNOWN)
