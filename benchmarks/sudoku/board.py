"""Grids as the tokens of a run, a cell a token."""

from dataclasses import dataclass

import numpy as np
import torch
from rules import BLANK
from torch import Tensor

from stochloc.core import UNKNOWN
from stochloc.data import Tokenizer

DIGITS = "123456789"


@dataclass(frozen=True)
class Board:
    """Which tokens the digits are.

    Attributes:
        digits: The tokens of 1 to 9.
    """

    digits: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Board":
        """Return the board of a run.

        Raises:
            ValueError: The run's tokens are not the nine digits.
        """
        digits = tuple(int(tokenizer.encode(digit)[0]) for digit in DIGITS)
        if len(set(digits)) < len(DIGITS):
            raise ValueError("The model was not trained on grids of digits.")
        return cls(digits)

    def tokens_of(self, puzzles: np.ndarray) -> Tensor:
        """Return puzzles as known tokens, `-1` where a cell is blank, `(B, 81)`."""
        return torch.tensor([UNKNOWN, *self.digits])[torch.from_numpy(puzzles).long()]

    def grids_of(self, known: Tensor) -> np.ndarray:
        """Return the digits of the cells, 0 where a token is unknown or none of the digits."""
        table = torch.full((max(self.digits) + 2,), BLANK, dtype=torch.int8)
        table[torch.tensor(self.digits) + 1] = torch.arange(1, 10, dtype=torch.int8)
        is_other = known >= len(table) - 1
        return table[(known + 1).masked_fill(is_other, 0)].numpy()
