"""Rules that sequences must obey, and which known tokens break one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stochloc.core.channel import UNKNOWN


@runtime_checkable
class Rule(Protocol):
    """What some sequences obey and others do not."""

    def broken(self, known: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
        """Return where the rule is broken: tokens that cannot all be right, or have no value left.

        Args:
            known: The tokens known so far, `-1` elsewhere.

        Returns:
            Nowhere if, as far as the rule sees, what is known can be completed; a sequence whose
            tokens are all known obeys the rule just then. Sequences do not influence each other.
        """
        ...


@dataclass(frozen=True)
class AllDifferent:
    """The tokens of a unit are all different: rows, columns and boxes of a Sudoku.

    Attributes:
        units: The places of every unit, at least two in each, from 0; units may overlap.
        num_values: How many values a place of a unit can have, tokens from 0; a place is out of
            values if its units have them all. None to look at known tokens alone.
    """

    units: Sequence[Sequence[int]]
    num_values: int | None = None

    def __post_init__(self) -> None:
        if any(len(set(unit)) < 2 or len(set(unit)) < len(unit) for unit in self.units):
            raise ValueError("A unit needs two places or more, and each of them once.")
        if any(place < 0 for unit in self.units for place in unit):
            raise ValueError("The places of a unit are counted from 0.")

    @cached_property
    def pairs(self) -> Int[Tensor, "pairs 2"]:
        """All pairs of places whose tokens must differ."""
        pairs = {(a, b) for unit in self.units for a in unit for b in unit if a < b}
        return torch.tensor(sorted(pairs), dtype=torch.long).view(-1, 2)

    def broken(self, known: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
        """Return the tokens that occur more than once in a unit, and those out of values.

        Args:
            known: The tokens known so far, `-1` elsewhere; places of a unit behind the end of the
                sequence are left out.

        Returns:
            Where the rule is broken.
        """
        pairs = self.pairs.to(known.device)
        first, second = pairs[(pairs < known.shape[1]).all(-1)].unbind(-1)
        alike = (known[:, first] == known[:, second]) & (known[:, first] != UNKNOWN)
        count = torch.zeros_like(known).index_add_(1, first, alike.long())
        twice = count.index_add_(1, second, alike.long()) > 0
        if self.num_values is None:
            return twice
        has = (known[..., None] == torch.arange(self.num_values, device=known.device)).long()
        seen = torch.zeros_like(has).index_add_(1, first, has[:, second])
        seen = seen.index_add_(1, second, has[:, first])
        return twice | ((seen > 0).all(-1) & (known == UNKNOWN))
