"""Text to token ids and back, whole or as a stream of bytes.

Every tokenizer turns text into integers `0 .. vocabulary_size - 1`. Encoding a stream gives the
same ids as encoding the whole, however the bytes are cut, in memory that does not grow with the
text. A subword tokenizer joins by following the `Tokenizer` protocol and adding its kind to
`tokenizer_from_dict`. Knows nothing of caches, corpora or splits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer, UInt8, UInt32

from stochloc.data.cleaning import SYMBOLS, clean
from stochloc.data.codepoints import code_points, decode_utf8, discover_alphabet
from stochloc.data.legible import PlainBytes
from stochloc.data.texts import UnknownCharactersError, read_chunks

# Unknown characters that a message lists.
MOST_SHOWN = 10

TokenIds = Sequence[int] | Integer[np.ndarray, " tokens"] | Integer[torch.Tensor, " tokens"]


@runtime_checkable
class Tokenizer(Protocol):
    """Turns text into token ids and back."""

    @property
    def vocabulary_size(self) -> int:
        """The number of different tokens, **V**."""
        ...

    @property
    def is_character_level(self) -> bool:
        """Whether one token is one character, so that bits per token are bits per character."""
        ...

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the token ids of a text."""
        ...

    def decode(self, ids: TokenIds) -> str:
        """Return the text that token ids stand for."""
        ...

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield token ids of UTF-8 bytes: joined, those of the whole text."""
        ...

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return, for every token of a text, the position of the character it comes from."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able facts from which `tokenizer_from_dict` makes an equal tokenizer."""
        ...


@final
@dataclass(frozen=True)
class CharacterTokenizer:
    """One token per character of a fixed alphabet; the id is the place in the alphabet.

    Args:
        alphabet: the distinct characters, in the order of their ids.

    Raises:
        ValueError: the alphabet is empty or repeats a character.
    """

    alphabet: str

    def __post_init__(self) -> None:
        if not self.alphabet:
            raise ValueError("The alphabet is empty; give at least one character.")
        if len(set(self.alphabet)) < len(self.alphabet):
            raise ValueError("The alphabet repeats a character; give each character once.")

    @property
    def vocabulary_size(self) -> int:
        """The number of characters in the alphabet."""
        return len(self.alphabet)

    @property
    def is_character_level(self) -> bool:
        """True: a token is a character."""
        return True

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return one id per character.

        Args:
            text: characters of the alphabet.

        Returns:
            Ids, shape (characters,).

        Raises:
            ValueError: a character is not in the alphabet.
        """
        ids = self._look_up(text)
        if ids.size and ids.min() < 0:
            first = int(np.argmax(ids < 0))
            raise self._unknown(text[first], f"position {first}, counted from 0,")
        return ids.astype(np.int64)

    def decode(self, ids: TokenIds) -> str:
        """Return the characters with these ids.

        Args:
            ids: numbers from 0 to V - 1.

        Returns:
            As many characters as ids.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        codes = self._codes[_checked(ids, self.vocabulary_size)]
        return codes.tobytes().decode("utf-32-le", "surrogatepass")

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield ids chunk by chunk, in the smallest unsigned type that holds them.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Yields:
            Ids; joined, those of the whole text.

        Raises:
            UnknownCharactersError: characters are not in the alphabet; the message counts them.
            ValueError: the bytes are not UTF-8.
        """
        dtype, seen = token_dtype(self.vocabulary_size), _Unknown()
        for text in decode_utf8(chunks):
            ids = self._look_up(text)
            seen.look_at(text, ids < 0)
            if not seen.counts:
                yield ids.astype(dtype)
        if seen.counts:
            raise self._unknown(next(iter(seen.counts)), seen.described())

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return 0, 1, 2, ...: a token is a character."""
        return np.arange(len(text))

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and the alphabet."""
        return {"kind": "characters", "alphabet": self.alphabet}

    @cached_property
    def _codes(self) -> UInt32[np.ndarray, " vocabulary"]:
        return code_points(self.alphabet)

    @cached_property
    def _table(self) -> np.ndarray:
        # One entry beyond the largest code point: a clipped `take` sends all larger ones there.
        table = np.full(int(self._codes.max()) + 2, -1, dtype=np.int32)
        table[self._codes] = np.arange(self.vocabulary_size)
        return table

    def _look_up(self, text: str) -> Integer[np.ndarray, " tokens"]:
        """Return the ids, below 0 for characters that are not in the alphabet."""
        return self._table.take(code_points(text), mode="clip")

    def _unknown(self, character: str, where: str) -> UnknownCharactersError:
        return UnknownCharactersError(
            f"The character {character!r} at {where} is not among the {self.vocabulary_size} "
            "characters of the alphabet; remove it from the text, or use an alphabet that holds it."
        )


class _Unknown:
    """Counts the characters of a text that are not in an alphabet, and knows where they begin."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.line, self.column, self.first = 1, 1, ""

    def look_at(self, text: str, is_unknown: Bool[np.ndarray, " characters"]) -> None:
        """Look at the next piece of the text."""
        places = np.flatnonzero(is_unknown)
        if len(places) and not self.counts:
            line, column = self._after(text[: places[0]])
            self.first = f"line {line}, character {column}"
        for place in places:
            self.counts[text[place]] = self.counts.get(text[place], 0) + 1
        self.line, self.column = self._after(text)

    def described(self) -> str:
        """Return where the first one is, and which others there are."""
        total = sum(self.counts.values())
        if total == 1:
            return self.first
        shown = ", ".join(map(repr, list(self.counts)[:MOST_SHOWN]))
        more = ", ..." if len(self.counts) > MOST_SHOWN else ""
        return f"{self.first} (the first of {total} unknown ones: {shown}{more})"

    def _after(self, text: str) -> tuple[int, int]:
        breaks = text.count("\n")
        column = len(text) - text.rfind("\n") if breaks else self.column + len(text)
        return self.line + breaks, column


@final
@dataclass(frozen=True)
class ByteTokenizer:
    """One token per byte of the UTF-8 text; any file can be encoded."""

    @property
    def vocabulary_size(self) -> int:
        """The 256 bytes."""
        return 256

    @property
    def is_character_level(self) -> bool:
        """False: a character can take several bytes."""
        return False

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the UTF-8 bytes of a text, shape (bytes,); escaped bytes stand for themselves."""
        raw = text.encode("utf-8", "surrogateescape")
        return np.frombuffer(raw, dtype=np.uint8).astype(np.int64)

    def decode(self, ids: TokenIds) -> str:
        """Return the text of UTF-8 bytes, with U+FFFD where they are not UTF-8.

        Args:
            ids: bytes, numbers from 0 to 255.

        Returns:
            The text; a generated sequence need not be valid UTF-8, so this never fails on bytes.

        Raises:
            ValueError: an id is outside 0 .. 255.
        """
        return (
            _checked(ids, self.vocabulary_size).astype(np.uint8).tobytes().decode(errors="replace")
        )

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[UInt8[np.ndarray, " tokens"]]:
        """Yield the bytes themselves as `uint8`; they need not be UTF-8."""
        return (np.frombuffer(chunk, dtype=np.uint8) for chunk in chunks)

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the position of every byte's character."""
        lengths = [len(character.encode("utf-8", "surrogateescape")) for character in text]
        return np.repeat(np.arange(len(text)), np.array(lengths, dtype=np.int64))

    def to_dict(self) -> dict[str, Any]:
        """Return the kind."""
        return {"kind": "bytes"}


@final
@dataclass(frozen=True)
class Text8Tokenizer:
    """The 27 symbols of text8: space is 0, `a` to `z` are 1 to 26.

    Any text is first cleaned as text8 was: A-Z become lower case, digits are spelled out (` zero `
    to ` nine `), every run of other characters becomes one space. Clean text stays as it is.

    References:
        Mahoney (2006), About the Test Data, http://mattmahoney.net/dc/textdata.html, appendix A.
    """

    @property
    def vocabulary_size(self) -> int:
        """Space and 26 letters."""
        return len(SYMBOLS)

    @property
    def is_character_level(self) -> bool:
        """True: a token is a character of the cleaned text."""
        return True

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the ids of the cleaned text, shape (characters of the cleaned text,)."""
        return clean(text, after_space=False).astype(np.int64)

    def decode(self, ids: TokenIds) -> str:
        """Return the cleaned text with these ids.

        Args:
            ids: numbers from 0 to 26.

        Returns:
            As many characters as ids.

        Raises:
            ValueError: an id is outside 0 .. 26.
        """
        letters = np.frombuffer(SYMBOLS, dtype=np.uint8)
        return letters[_checked(ids, self.vocabulary_size)].tobytes().decode("ascii")

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[UInt8[np.ndarray, " tokens"]]:
        """Yield ids chunk by chunk as `uint8`.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Yields:
            Ids; joined, those of the whole text.

        Raises:
            ValueError: the bytes are not UTF-8.
        """
        after_space = False
        for text in decode_utf8(chunks):
            ids = clean(text, after_space)
            if ids.size:
                after_space = bool(ids[-1] == 0)
                yield ids

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the position of the character that each symbol comes from, before cleaning."""
        found, after_space = list[int](), False
        for place, character in enumerate(text):
            ids = clean(character, after_space)
            found += [place] * len(ids)
            after_space = bool(ids[-1] == 0) if ids.size else after_space
        return np.array(found, dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return the kind."""
        return {"kind": "text8"}


@final
@dataclass(frozen=True)
class LabelledTokenizer:
    """A tokenizer with a token more for every class; labels mean no text.

    Args:
        inner: the tokenizer of the texts.
        labels: the names of the classes, in the order of their tokens.

    Raises:
        ValueError: a name is empty or given twice.
    """

    inner: Tokenizer
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            raise ValueError(f"Labels are a tuple of names, not the one name {self.labels!r}.")
        if not all(self.labels) or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"The classes need different names, not {', '.join(self.labels)}.")

    @property
    def vocabulary_size(self) -> int:
        """The tokens of the texts and the labels, **V**."""
        return self.inner.vocabulary_size + len(self.labels)

    @property
    def is_character_level(self) -> bool:
        """False: a label is a token, but not a character."""
        return False

    def label_token(self, name: str) -> int:
        """Return the token of a class.

        Args:
            name: the name of the class.

        Returns:
            Its id, above those of the texts.

        Raises:
            ValueError: there is no such class.
        """
        if name not in self.labels:
            raise ValueError(f"There is no class {name!r}; the classes are {self._names}.")
        return self.inner.vocabulary_size + self.labels.index(name)

    @property
    def _names(self) -> str:
        return ", ".join(self.labels)

    def is_label(self, ids: Integer[np.ndarray, "*shape"]) -> np.ndarray:
        """Return where the tokens are labels."""
        return np.asarray(ids) >= self.inner.vocabulary_size

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the token ids of a text, without a label."""
        return self.inner.encode(text)

    def decode(self, ids: TokenIds) -> str:
        """Return the text that token ids stand for; labels stand for nothing."""
        array = np.asarray(ids)
        return self.inner.decode(array[~self.is_label(array)])

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield token ids of UTF-8 bytes, without a label."""
        return self.inner.encode_stream(chunks)

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return, for every token of a text, the position of the character it comes from."""
        return self.inner.places(text)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able facts from which `tokenizer_from_dict` makes an equal tokenizer."""
        return {"kind": "labelled", "inner": self.inner.to_dict(), "labels": list(self.labels)}


def tokenizer_from_dict(facts: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer whose `to_dict` gave these facts.

    Args:
        facts: the tokenizer's kind and whatever else that kind needs.

    Returns:
        An equal tokenizer.

    Raises:
        ValueError: the kind is not known.
    """
    match facts:
        case {"kind": "characters", "alphabet": str(alphabet)}:
            return CharacterTokenizer(alphabet)
        case {"kind": "bytes"}:
            return ByteTokenizer()
        case {"kind": "text8"}:
            return Text8Tokenizer()
        case {"kind": "labelled", "inner": dict(inner), "labels": [*labels]}:
            return LabelledTokenizer(tokenizer_from_dict(inner), tuple(map(str, labels)))
        case {"kind": "slotted", "inner": dict(inner), "rate": float(rate)}:
            # Slots are made of any tokenizer, so their module stands above this one.
            from stochloc.data.slots import SlottedTokenizer

            return SlottedTokenizer(tokenizer_from_dict(inner), rate)
    raise ValueError(
        f"No tokenizer is described by {str(dict(facts))[:200]}; the known kinds are characters "
        "(with an alphabet), bytes, text8, labelled and slotted."
    )


def make_tokenizer(name: str, train_path: str | Path) -> Tokenizer:
    """Return the tokenizer of this name for a training text.

    Args:
        name: "characters", "bytes" or "text8".
        train_path: the training text; read only for "characters", to find its alphabet.

    Returns:
        A tokenizer that can encode the training text.

    Raises:
        ValueError: the name is not known, or the alphabet cannot be read from the file.
    """
    return tokenizer_for(name, read_chunks(train_path))


def tokenizer_for(name: str, chunks: Iterable[bytes]) -> Tokenizer:
    """Return the tokenizer of this name for a text given as UTF-8 bytes.

    Args:
        name: "characters", "bytes" or "text8".
        chunks: the training text; read only for "characters".

    Returns:
        A tokenizer that can encode the training text.

    Raises:
        ValueError: the name is not known.
    """
    if name == "characters":
        return CharacterTokenizer(discover_alphabet(PlainBytes(chunks)))
    if name in ("bytes", "text8"):
        return tokenizer_from_dict({"kind": name})
    raise ValueError(f"There is no tokenizer {name!r}; use characters, bytes or text8.")


def token_dtype(vocabulary_size: int) -> np.dtype[Any]:
    """Return the smallest unsigned integer type that holds all ids of a vocabulary."""
    return np.min_scalar_type(vocabulary_size - 1)


def _checked(ids: TokenIds, vocabulary_size: int) -> Int64[np.ndarray, " tokens"]:
    values = ids.cpu().numpy() if isinstance(ids, torch.Tensor) else ids
    array = np.asarray(values, dtype=np.int64)
    if array.size and not (array.min() >= 0 and array.max() < vocabulary_size):
        raise ValueError(
            f"Token ids from {array.min()} to {array.max()} cannot be decoded; they must lie in "
            f"0 .. {vocabulary_size - 1}."
        )
    return array
