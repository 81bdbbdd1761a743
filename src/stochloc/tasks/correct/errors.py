"""What errors happen to a text, and what undoing one of them costs.

An edit reads the piece `right` where `read` was read. By Bayes' rule it costs

    log P(read|read) - log P(read|right)

nats of the text's likelihood, for two pieces of at most a few tokens each.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Text = tuple[int, ...]
LONGEST_PIECE = 3


@runtime_checkable
class Errors(Protocol):
    """How often pieces of a text are read as others."""

    def cost(self, read: Text, right: Text, snr: float) -> float:
        """Return what it costs to take one piece for another, in nats.

        Args:
            read: The piece that was read; empty where something was lost.
            right: Another one; empty where something was added.
            snr: Log-odds g of what was read there, finite; 0 where nothing is known.

        Returns:
            Nats, ∞ of pieces that are never mistaken for each other.
        """
        ...

    def likely(self, read: Text) -> Mapping[Text, float]:
        """Return the pieces known to be read as this one, but for one token in place of another.

        Args:
            read: The piece that was read, not empty.

        Returns:
            What each costs where something is known, in nats.
        """
        ...


@dataclass(frozen=True)
class EqualKinds:
    """Tokens are replaced, lost, added, and swapped with the next one, each kind as often.

    With the same probability ρ a token is replaced by one of V - 1 others, lost, swapped, or one of
    V tokens is added before it. With `g = log((1-ρ)(V-1)/ρ)` the cost is

        g of another token, g + log V/(V-1) of none, g - log(V-1) of a lost one or of two swapped.

    Attributes:
        num_symbols: Number of symbols that can be read, V, at least 2.
    """

    num_symbols: int

    def cost(self, read: Text, right: Text, snr: float) -> float:
        """Return what an edit costs; exact where at most one error happened.

        Args:
            read: The piece that was read, of at most two tokens.
            right: Another one.
            snr: g; where errors are likelier than none, those that leave no choice cost nothing.

        Returns:
            Nats.
        """
        # Among how many errors of its kind the one was chosen that this edit undoes.
        ways = {(1, 1): self.num_symbols - 1, (1, 0): self.num_symbols}
        choice = ways.get((len(read), len(right)), 1) / (self.num_symbols - 1)
        return max(0.0, snr + math.log(choice))

    def likely(self, read: Text) -> Mapping[Text, float]:
        """Return nothing: no piece is likelier than others of its kind."""
        return {}
