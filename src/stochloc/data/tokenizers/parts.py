"""The parts of a text that a tokenizer knows or does not know, each by itself.

For most tokenizers these are the characters; for one whose tokens are words, the words. Messages
about unknown parts name them by this, and a text is brought into the form that a tokenizer knows
part by part (`data.normalisation`).
"""

import re
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

_WORDS = re.compile(r"[\n\r]|[^\S\n\r]+|\S+")


@runtime_checkable
class Parts(Protocol):
    """How a text is divided into what is known or unknown."""

    @property
    def name(self) -> str:
        """What one of the parts is called: "character"."""
        ...

    @property
    def known(self) -> str:
        """What holds all known parts: "alphabet"."""
        ...

    def split(self, text: str) -> list[str]:
        """Return the parts of a text; joined, the text."""
        ...


@final
@dataclass(frozen=True)
class Characters:
    """Every character is a part."""

    @property
    def name(self) -> str:
        """A character."""
        return "character"

    @property
    def known(self) -> str:
        """The alphabet."""
        return "alphabet"

    def split(self, text: str) -> list[str]:
        """Return the characters of a text."""
        return list(text)


@final
@dataclass(frozen=True)
class Words:
    """Every word is a part, and so are every line break and the white space between two words."""

    @property
    def name(self) -> str:
        """A word."""
        return "word"

    @property
    def known(self) -> str:
        """The vocabulary."""
        return "vocabulary"

    def split(self, text: str) -> list[str]:
        """Return the words of a text, the line breaks, and the other white space."""
        return _WORDS.findall(text)
