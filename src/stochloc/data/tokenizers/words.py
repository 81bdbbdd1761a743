"""One token per word: chords, moves, atoms, whatever white space separates.

A text is read as its lines, a line as its words. A word is a token, a line break is a token, and
the white space between two words stands for nothing: decoding writes one space there, and none
beside a line break.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, final

import numpy as np
from jaxtyping import Int64, Integer

from stochloc.data.codepoints import decode_utf8
from stochloc.data.normalisation import PlainBytes
from stochloc.data.tokenizers.parts import Words
from stochloc.data.tokenizers.protocol import PlainText, TokenIds, checked, token_dtype
from stochloc.data.tokenizers.unknown import UnknownCharacters, unknown_at

BREAK = "\n"
NAME = "words"


@final
@dataclass(frozen=True)
class WordTokenizer(PlainText):
    """One token per word of a fixed vocabulary; the id is the place in the vocabulary.

    Args:
        words: the distinct words, in the order of their ids; `"\\n"` is the line break.
        name: what a user called it: `words`, or `words:train` if training text alone was read.

    Raises:
        ValueError: there are no words, one is repeated, or one holds white space.
    """

    words: tuple[str, ...]
    name: str = NAME

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("There are no words; give a text with at least one.")
        if len(set(self.words)) < len(self.words):
            raise ValueError("The vocabulary repeats a word; give each word once.")
        for word in self.words:
            if word != BREAK and (not word or word.split() != [word]):
                raise ValueError(f"{word!r} is not a word: there is white space in it, or nothing.")

    @classmethod
    def for_text(cls, chunks: Iterable[bytes]) -> "WordTokenizer":
        """Return the tokenizer of all words of a training text.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Returns:
            The tokenizer; ids are in the order of code points.

        Raises:
            ValueError: the bytes are not UTF-8, or there are no words.
        """
        found: set[str] = set()
        for text in _whole_words(decode_utf8(PlainBytes(chunks))):
            found.update(word for _, word in _words(text))
        return cls(tuple(sorted(found)))

    @classmethod
    def for_texts(cls, texts: Iterable[Iterable[bytes]]) -> "WordTokenizer":
        """Return the tokenizer of all words of several texts, of which none runs into the next."""
        return cls.for_text(chain.from_iterable(chain(chunks, (b" ",)) for chunks in texts))

    @classmethod
    def for_records(cls, records: Iterable[str]) -> "WordTokenizer":
        """Return the tokenizer of all words of the training texts.

        Args:
            records: the texts, each a sequence; between them there is nothing.

        Returns:
            The tokenizer; ids are in the order of code points.

        Raises:
            ValueError: there are no words.
        """
        return cls.for_text(f"{record} ".encode("utf-8", "surrogatepass") for record in records)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "WordTokenizer":
        """Return the tokenizer of the words in `facts`.

        Args:
            facts: with a list of `words`, and a `name` if it is not the usual one.

        Returns:
            An equal tokenizer.

        Raises:
            KeyError, TypeError, ValueError: there is no list of words, or not of words.
        """
        words, name = facts["words"], facts.get("name", NAME)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TypeError("The words are not a list of texts.")
        if not isinstance(name, str):
            raise TypeError("The name is not a text.")
        return cls(tuple(words), name)

    @property
    def vocabulary_size(self) -> int:
        """The number of different words, the line break among them."""
        return len(self.words)

    @property
    def is_byte_level(self) -> bool:
        """False: a token is a word."""
        return False

    @property
    def parts(self) -> Words:
        """Words are known or unknown, not characters."""
        return Words()

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return one id per word and line break.

        Args:
            text: words of the vocabulary.

        Returns:
            Ids, shape (words,).

        Raises:
            UnknownCharactersError: a word is not in the vocabulary; with the position of its first
                character, from 0.
        """
        ids = []
        for place, word in _words(text):
            if word not in self._ids:
                raise unknown_at(place, word, self.parts, self._known)
            ids.append(self._ids[word])
        return np.array(ids, dtype=np.int64)

    def decode(self, ids: TokenIds) -> str:
        """Return the words with these ids, joined by one space, none beside a line break.

        Args:
            ids: numbers from 0 to V - 1.

        Returns:
            The text.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        words = [self.words[token] for token in checked(ids, self.vocabulary_size).tolist()]
        return " ".join(words).replace(f" {BREAK}", BREAK).replace(f"{BREAK} ", BREAK)

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield ids chunk by chunk, in the smallest unsigned type that holds them.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Yields:
            Ids; joined, those of the whole text.

        Raises:
            UnknownCharactersError: words are not in the vocabulary; the message counts them.
            ValueError: the bytes are not UTF-8.
        """
        dtype, unknown = token_dtype(self.vocabulary_size), UnknownCharacters(self.parts)
        for text in _whole_words(decode_utf8(chunks)):
            words = _words(text)
            unknown.look_at(text, [pair for pair in words if pair[1] not in self._ids])
            if not unknown.counts:
                yield np.array([self._ids[word] for _, word in words], dtype=dtype)
        unknown.refuse(self._known)

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the position of every word's first character."""
        return np.array([place for place, _ in _words(text)], dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return the kind, the words, and the name if it is not the usual one."""
        name = {} if self.name == NAME else {"name": self.name}
        return {"kind": "words", "words": list(self.words), **name}

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.words)}

    @property
    def _known(self) -> str:
        return f"the {self.vocabulary_size} words of the vocabulary"


def _words(text: str) -> list[tuple[int, str]]:
    """Return the words and line breaks of a text, CR among these, with their positions."""
    found, place = list[tuple[int, str]](), 0
    for part in Words().split(text):
        if part in (BREAK, "\r") or not part.isspace():
            found.append((place, part))
        place += len(part)
    return found


def _whole_words(texts: Iterable[str]) -> Iterator[str]:
    """Yield a text cut anywhere in pieces that end between two words."""
    held = ""
    for text in texts:
        held += text
        cut = next((n for n in range(len(held), 0, -1) if held[n - 1].isspace()), 0)
        yield held[:cut]
        held = held[cut:]
    yield held
