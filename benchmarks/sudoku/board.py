"""Grids as the tokens of a run: 81 cells, after a boundary where the run has one."""

from dataclasses import dataclass

import numpy as np
import torch
from rules import BLANK, CELLS
from torch import Tensor

from stochloc.core import UNKNOWN
from stochloc.data import Tokenizer

DIGITS = "123456789"


@dataclass(frozen=True)
class Board:
    """Where the cells are in a sequence, and which tokens the digits are.

    Attributes:
        digits: The tokens of 1 to 9.
        boundary: The token before and after the cells; None for cells alone.
    """

    digits: tuple[int, ...]
    boundary: int | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Board":
        """Return the board of a run.

        Raises:
            ValueError: The run's tokens are not the nine digits.
        """
        digits = tuple(int(tokenizer.encode(digit)[0]) for digit in DIGITS)
        if len(set(digits)) < len(DIGITS):
            raise ValueError("The model was not trained on grids of digits.")
        return cls(digits, getattr(tokenizer, "boundary", None))

    @property
    def first(self) -> int:
        """The place of the first cell."""
        return 0 if self.boundary is None else 1

    def tokens_of(self, puzzles: np.ndarray) -> Tensor:
        """Return puzzles as known tokens, `-1` where a cell is blank, `(B, L)`."""
        table = torch.tensor([UNKNOWN, *self.digits])
        cells = table[torch.from_numpy(puzzles).long()]
        if self.boundary is None:
            return cells
        edge = torch.full((len(cells), 1), self.boundary)
        return torch.cat([edge, cells, edge], 1)

    def grids_of(self, known: Tensor) -> np.ndarray:
        """Return the digits of the cells, 0 where a token is unknown or none of the digits."""
        cells = known[:, self.first : self.first + CELLS]
        table = torch.full((max(self.digits) + 2,), BLANK, dtype=torch.int8)
        table[torch.tensor(self.digits) + 1] = torch.arange(1, 10, dtype=torch.int8)
        return table[(cells + 1).clamp(max=len(table) - 1) * (cells < len(table) - 1)].numpy()
