"""The training budget of a method in a comparison, in updates, tokens or seconds."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """A training budget.

    Attributes:
        unit: "updates", "tokens" or "seconds" (wall-clock time of training alone).
        amount: The number of units, positive.
    """

    unit: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Return the budget written as text, such as `updates=1500`.

        Args:
            text: Unit, equals sign, positive amount.

        Returns:
            The budget.

        Raises:
            ValueError: The text is not of this form.
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
        """Return the share of the budget that is used up; 1 or more at its end.

        Args:
            step: Number of updates done.
            tokens_per_update: Tokens per update.
            seconds: Time the updates took.

        Returns:
            The share.
        """
        used = {"updates": step, "tokens": step * tokens_per_update, "seconds": seconds}
        return used[self.unit] / self.amount
