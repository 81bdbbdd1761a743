"""Tokenizers by name that are no classes.

Learned from training text, `bpe:8000` and `words:train`, or read from a file.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, final, runtime_checkable

from stochloc.data.codepoints import decode_utf8
from stochloc.data.tokenizers.library import MOST_TOKENS, learned
from stochloc.data.tokenizers.pieces import pieces
from stochloc.data.tokenizers.protocol import Tokenizer
from stochloc.data.tokenizers.subwords import SubwordTokenizer
from stochloc.data.tokenizers.words import WordTokenizer
from stochloc.terminal import tell

# The 256 bytes, and one token of several.
FEWEST_TOKENS = 257


@runtime_checkable
class Choice(Protocol):
    """A choice of a tokenizer before there is a text."""

    def for_text(self, chunks: Iterable[bytes]) -> Tokenizer:
        """Return the tokenizer for a training text, given as UTF-8 bytes."""
        ...

    def for_texts(self, texts: Iterable[Iterable[bytes]]) -> Tokenizer:
        """Return the tokenizer for several texts, each by itself."""
        ...

    def for_records(self, records: Iterable[str]) -> Tokenizer:
        """Return the tokenizer for training texts that are sequences, each by itself."""
        ...


@final
@dataclass(frozen=True)
class Stored:
    """A tokenizer that is the same for every text.

    Args:
        tokenizer: the tokenizer.
    """

    tokenizer: Tokenizer

    def for_text(self, chunks: Iterable[bytes]) -> Tokenizer:
        """Return the tokenizer; the text is not read."""
        return self.tokenizer

    def for_texts(self, texts: Iterable[Iterable[bytes]]) -> Tokenizer:
        """Return the tokenizer; the texts are not read."""
        return self.tokenizer

    def for_records(self, records: Iterable[str]) -> Tokenizer:
        """Return the tokenizer; the texts are not read."""
        return self.tokenizer


@final
@dataclass(frozen=True)
class BytePairs:
    """Byte pair encoding of so many tokens.

    Args:
        size: tokens, the 256 bytes among them.

    Raises:
        ValueError: the size is out of range.
    """

    size: int

    def __post_init__(self) -> None:
        if not FEWEST_TOKENS <= self.size <= MOST_TOKENS:
            raise ValueError(
                f"Byte pair encoding has from {FEWEST_TOKENS} tokens, the 256 bytes and one pair, "
                f"to {MOST_TOKENS}, not {self.size}."
            )

    @classmethod
    def parse(cls, setting: str) -> "BytePairs":
        """Return the choice that `bpe:` and a number name.

        Args:
            setting: what is behind the colon.

        Raises:
            ValueError: it is not a number, or out of range.
        """
        if not (setting.isascii() and setting.isdigit() and len(setting) < 10):
            raise ValueError(
                "Byte pair encoding is named with its number of tokens, bpe:8000, not "
                f"'bpe:{setting[:50]}'."
            )
        return cls(int(setting))

    def for_text(self, chunks: Iterable[bytes]) -> SubwordTokenizer:
        """Return the tokenizer learned from a text, which says so if it has fewer tokens.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Returns:
            The tokenizer; the same for the same text.

        Raises:
            ValueError: the bytes are not UTF-8, or the package `tokenizers` is not installed.
        """
        return self.for_texts([chunks])

    def for_texts(self, texts: Iterable[Iterable[bytes]]) -> SubwordTokenizer:
        """Return the tokenizer learned from several texts, each by itself; as `for_text`."""
        return self._learned(piece for chunks in texts for piece in pieces(decode_utf8(chunks)))

    def for_records(self, records: Iterable[str]) -> SubwordTokenizer:
        """Return the tokenizer learned from texts that are sequences, each by itself.

        Args:
            records: the texts.

        Returns:
            The tokenizer; the same for the same texts.

        Raises:
            ValueError: the package `tokenizers` is not installed.
        """
        return self._learned(piece for record in records for piece in pieces([record]))

    def _learned(self, texts: Iterable[str]) -> SubwordTokenizer:
        name = f"bpe:{self.size}"
        text = learned(texts, self.size)
        tokenizer = SubwordTokenizer.from_json(text, name)
        if tokenizer.vocabulary_size < self.size:
            tell(
                f"stochloc: {name} has {tokenizer.vocabulary_size} tokens only: by then every word "
                "of the text is one token."
            )
        return tokenizer


@final
@dataclass(frozen=True)
class TrainingWords:
    """The words of training text alone; held-out text may have others, which are unknown."""

    @classmethod
    def parse(cls, setting: str) -> "TrainingWords":
        """Return the choice that `words:` and `train` name.

        Args:
            setting: what is behind the colon.

        Raises:
            ValueError: it is something else.
        """
        if setting != "train":
            raise ValueError(
                "Words are those of all data, words, or of training text alone, words:train, not "
                f"'words:{setting[:50]}'."
            )
        return cls()

    def for_text(self, chunks: Iterable[bytes]) -> WordTokenizer:
        """Return the tokenizer of all words of a training text; as `WordTokenizer.for_text`."""
        return self._named(WordTokenizer.for_text(chunks))

    def for_texts(self, texts: Iterable[Iterable[bytes]]) -> WordTokenizer:
        """Return the tokenizer of all words of several training texts."""
        return self._named(WordTokenizer.for_texts(texts))

    def for_records(self, records: Iterable[str]) -> WordTokenizer:
        """Return the tokenizer of all words of training texts that are sequences."""
        return self._named(WordTokenizer.for_records(records))

    def _named(self, tokenizer: WordTokenizer) -> WordTokenizer:
        return replace(tokenizer, name="words:train")
