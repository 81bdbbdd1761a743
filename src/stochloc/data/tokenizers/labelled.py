"""A tokenizer with labels of classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from stochloc.data.tokenizers.around import AroundText
from stochloc.data.tokenizers.protocol import Tokenizer
from stochloc.data.tokenizers.slots import Slots


@final
@dataclass(frozen=True)
class LabelledTokenizer(AroundText):
    """A tokenizer with an additional token for every class; labels stand for no text.

    Args:
        inner: the tokenizer of the texts.
        labels: the names of the classes, in the order of their tokens.

    Raises:
        ValueError: a name is empty or given twice.
    """

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            raise ValueError(f"Labels are a tuple of names, not the one name {self.labels!r}.")
        if not all(self.labels) or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"The classes need different names, not {', '.join(self.labels)}.")

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "LabelledTokenizer":
        """Return the tokenizer whose `to_dict` gave these facts, with `inner` already remade.

        Args:
            facts: the tokenizer `inner` and a list of `labels`.

        Returns:
            An equal tokenizer.

        Raises:
            KeyError, TypeError, ValueError: the facts are not those of this kind.
        """
        if not isinstance(facts["inner"], Tokenizer) or not isinstance(facts["labels"], list):
            raise TypeError("There is no inner tokenizer, or no list of labels.")
        return cls(facts["inner"], tuple(map(str, facts["labels"])))

    @property
    def vocabulary_size(self) -> int:
        """The tokens of the texts and the labels, **V**."""
        return self.inner.vocabulary_size + len(self.labels)

    @property
    def boundary(self) -> int | None:
        """The token before and after every sequence, if the texts are sequences."""
        return self.inner.boundary

    @property
    def slots(self) -> Slots | None:
        """The slots of the texts, if they are laid out in some."""
        return self.inner.slots

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `tokenizer_from_dict` makes an equal tokenizer."""
        return {"kind": "labelled", "inner": self.inner.to_dict(), "labels": list(self.labels)}
