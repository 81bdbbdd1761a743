"""A tokenizer of sequences, each with a beginning and an end.

A sequence of n tokens of text is `boundary x_1 ... x_n boundary`. The boundary is always known: it
says where a text begins and ends, is never a target and never sampled, and stands for no text. As
with labels, `encode` returns the tokens of text alone; `data.sequences` sets the boundaries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from stochloc.data.tokenizers.around import AroundText
from stochloc.data.tokenizers.protocol import Tokenizer


@final
@dataclass(frozen=True)
class SequenceTokenizer(AroundText):
    """A tokenizer with one more token, the boundary before and after every sequence.

    Args:
        inner: the tokenizer of the texts.

    Raises:
        ValueError: the inner tokenizer has labels, slots or a boundary of its own.
    """

    def __post_init__(self) -> None:
        if self.inner.labels or self.inner.slots is not None or self.inner.boundary is not None:
            raise ValueError("Boundaries are set around plain text, not around labels or slots.")

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "SequenceTokenizer":
        """Return the tokenizer whose `to_dict` gave these facts, with `inner` already remade.

        Args:
            facts: the tokenizer `inner`.

        Returns:
            An equal tokenizer.

        Raises:
            KeyError, TypeError, ValueError: the facts are not those of this kind.
        """
        if not isinstance(facts["inner"], Tokenizer):
            raise TypeError("There is no inner tokenizer.")
        return cls(facts["inner"])

    @property
    def labels(self) -> tuple[str, ...]:
        """None: labels are laid around a tokenizer of sequences."""
        return ()

    @property
    def boundary(self) -> int:
        """The token before and after every sequence, above those of the texts."""
        return self.inner.vocabulary_size

    @property
    def slots(self) -> None:
        """None: sequences are not laid out in slots."""
        return

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and the inner tokenizer's facts."""
        return {"kind": "sequences", "inner": self.inner.to_dict()}
