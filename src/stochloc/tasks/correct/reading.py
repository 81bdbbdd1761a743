"""What decoders of corrupted text are given, and what they decide."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core import UNKNOWN, Denoiser, State
from stochloc.tasks.correct.errors import Errors


class Reading(NamedTuple):
    """Windows of a text as it was read.

    Attributes:
        state: Their soft mask.
        tokens: What was read.
        is_asked: Which places are decided in this window; the others are its context, and whatever
            is said of them is not used.
        errors: What errors happen to a text; of interest to edits.
    """

    state: State
    tokens: Int[Tensor, "batch length"]
    is_asked: Bool[Tensor, "batch length"]
    errors: Errors


class Decision(NamedTuple):
    """What became of every place that was read, and of the gaps before, between and after them.

    Attributes:
        tokens: The token of every place, `UNKNOWN = -1` where what was read is left out.
        probs: The probability of each.
        inserted: The token inserted before every place, and after the last; -1 for none.
        inserted_probs: The probability of each.
        calls: Denoiser calls it took.
    """

    tokens: Int[Tensor, "batch length"]
    probs: Float[Tensor, "batch length"]
    inserted: Int[Tensor, "batch gaps"]
    inserted_probs: Float[Tensor, "batch gaps"]
    calls: int

    @classmethod
    def in_place(
        cls, tokens: Int[Tensor, "batch length"], probs: Float[Tensor, "batch length"], calls: int
    ) -> "Decision":
        """Return the decision that neither leaves out nor inserts a token.

        Args:
            tokens: The token of every place.
            probs: The probability of each.
            calls: Denoiser calls it took.

        Returns:
            The decision.
        """
        gaps = (*tokens.shape[:-1], tokens.shape[-1] + 1)
        return cls(tokens, probs, tokens.new_full(gaps, UNKNOWN), probs.new_zeros(gaps), calls)

    def text(self) -> Int[Tensor, " length"]:
        """Return the tokens of a single decided text, in their order."""
        ends = self.tokens.new_full((1,), UNKNOWN)
        both = torch.stack([self.inserted, torch.cat([self.tokens, ends])], -1).flatten()
        return both[both != UNKNOWN]


@runtime_checkable
class Decoder(Protocol):
    """A way to decode the original of a corrupted text, given its soft mask."""

    @property
    def threshold(self) -> float:
        """A change is made if its probability exceeds this, in `[0, 1]`."""
        ...

    @property
    def keeps_places(self) -> bool:
        """Whether every token stays at the place where it was read."""
        ...

    def decide(self, denoiser: Denoiser, reading: Reading) -> Decision:
        """Return the decided texts."""
        ...
