"""How long a method of a comparison may train: so many updates, tokens or seconds."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """How long a method may train.

    Attributes:
        unit: "updates", "tokens" or "seconds" (of training alone, by the wall clock).
        amount: How many.
    """

    unit: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Return the budget that a text such as `updates=1500` describes.

        Args:
            text: Unit, equals sign, positive amount.

        Returns:
            The budget.

        Raises:
            ValueError: The text describes none.
        """
        unit, _, amount = text.partition("=")
        try:
            value = float(amount)
        except ValueError:
            value = math.nan
        if unit not in ("updates", "tokens", "seconds") or not 0 < value < math.inf:
            raise ValueError(
                f"A budget is updates=N, tokens=N or seconds=N with a positive N, not {text!r}."
            )
        return cls(unit, value)

    def share_used(self, step: int, tokens_per_update: int, seconds: float) -> float:
        """Return which share of the budget is used up, at least 1 at its end.

        Args:
            step: Updates done.
            tokens_per_update: Tokens of each.
            seconds: Time they took.

        Returns:
            The share.
        """
        used = {"updates": step, "tokens": step * tokens_per_update, "seconds": seconds}
        return used[self.unit] / self.amount
