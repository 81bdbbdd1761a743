"""What a tokenizer is.

Tasks use the properties of a tokenizer, never its class. One that turns plain text into tokens
inherits `PlainText`; the boundaries of sequences (`data.tokenizers.sequences`), labels
(`data.tokenizers.labelled`) and slots (`data.tokenizers.slotted`) are laid around any other.

Tokens that are only ever given, never asked about, are the last of a vocabulary: tokens of text,
then the boundary, then the labels.

A tokenizer may map characters (capitals to small letters), drop them, or refuse them. It refuses by
`UnknownCharactersError`, which makes its callers try the text's other Unicode form. The message
names the character and where the first one is: `encode`, which has a whole string, gives its
position in it, and `encode_stream`, which reads a file, line and character; all are counted from 1,
as editors do. A tokenizer of words names the word. `UnknownCharacters` and
`unknown_at` in `data.tokenizers.unknown` do so.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, Integer

from stochloc.data.tokenizers.parts import Characters, Parts
from stochloc.data.tokenizers.slots import Slots

Kind = TypeVar("Kind")
Plain = TypeVar("Plain", bound="PlainText")
TokenIds = Sequence[int] | Integer[np.ndarray, " tokens"] | Integer[torch.Tensor, " tokens"]


@runtime_checkable
class Tokenizer(Protocol):
    """Turns text into token ids and back."""

    @property
    def vocabulary_size(self) -> int:
        """The number of different tokens, **V**."""
        ...

    @property
    def is_byte_level(self) -> bool:
        """Whether one token of text is one byte, so that any file can be read, UTF-8 or not."""
        ...

    @property
    def parts(self) -> Parts:
        """What it knows or does not know: characters, or words."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, whose tokens are the last of the vocabulary; () for none."""
        ...

    @property
    def boundary(self) -> int | None:
        """The token before and after every sequence; None where texts have neither end."""
        ...

    @property
    def slots(self) -> Slots | None:
        """The slots that texts are laid out in; None where texts have no gaps."""
        ...

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the token ids of a text.

        Args:
            text: any string, also an empty one, or one character of a longer text.

        Returns:
            Ids, shape (tokens,), in `0 .. V - 1`.

        Raises:
            UnknownCharactersError: a character cannot be encoded; with its position, from 0.
        """
        ...

    def decode(self, ids: TokenIds) -> str:
        """Return the text that token ids stand for.

        Args:
            ids: a sequence, array or tensor of ids; none of them give the empty text.

        Returns:
            The text.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        ...

    def decode_bytes(self, ids: TokenIds) -> bytes:
        """Return the bytes that token ids stand for, as they would be stored in a file.

        Args:
            ids: as for `decode`.

        Returns:
            UTF-8, but for a token that is a part of a character: its own bytes. So bytes of tokens
            add up, wherever a text is cut, unless decoding writes something between two tokens.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        ...

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield token ids of UTF-8 bytes, in memory that does not grow with the text.

        Args:
            chunks: UTF-8 bytes, cut anywhere, also within a character.

        Yields:
            Ids, of any integer type that holds them; joined, those of the whole text.

        Raises:
            UnknownCharactersError: a character cannot be encoded; with its line and place there.
            ValueError: the bytes are not UTF-8.
        """
        ...

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return, for every token of a text, the position of the character it comes from."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `tokenizer_from_dict` makes an equal tokenizer.

        Returns:
            `kind`, the tokenizer's name in the tables of `data.tokenizers.named`, and its settings.
        """
        ...


class PlainText(ABC):
    """The defaults of a tokenizer whose tokens are all text: no labels, boundary or slots.

    It knows or does not know characters, and `decode` loses nothing of them.

    Nor settings: a tokenizer that has some, as `CharacterTokenizer` its alphabet, has its own
    `for_text` and `from_dict`.
    """

    @classmethod
    def for_text(cls: type[Kind], chunks: Iterable[bytes]) -> Kind:
        """Return the tokenizer for a training text; it is not read where nothing depends on it."""
        return cls()

    @classmethod
    def for_texts(cls: type[Plain], texts: Iterable[Iterable[bytes]]) -> Plain:
        """Return the tokenizer for several texts, each by itself.

        Args:
            texts: the chunks of each, as `for_text` takes them.

        Returns:
            The tokenizer. By default that of the texts one after the other.

        Raises:
            ValueError: as `for_text`.
        """
        return cls.for_text(chain.from_iterable(texts))

    @classmethod
    def for_records(cls: type[Plain], records: Iterable[str]) -> Plain:
        """Return the tokenizer for texts that are sequences, each by itself.

        Args:
            records: the training texts; not read where nothing depends on them.

        Returns:
            The tokenizer. By default that of the texts with a line break after each, which no text
            need hold; one that collects an alphabet leaves it out.

        Raises:
            ValueError: no tokenizer can be made for the texts.
        """
        lines = (f"{record}\n".encode("utf-8", "surrogatepass") for record in records)
        return cls.for_text(lines)

    @classmethod
    def from_dict(cls: type[Kind], facts: Mapping[str, Any]) -> Kind:
        """Return the tokenizer whose `to_dict` gave these facts.

        Args:
            facts: JSON values from a file, so of any type.

        Returns:
            An equal tokenizer.

        Raises:
            KeyError, TypeError, ValueError: the facts are not those of this kind.
        """
        return cls()

    @property
    def parts(self) -> Parts:
        """Characters are known or unknown."""
        return Characters()

    @abstractmethod
    def decode(self, ids: TokenIds) -> str:
        """Return the text that token ids stand for."""

    def decode_bytes(self, ids: TokenIds) -> bytes:
        """Return the text that token ids stand for, as UTF-8."""
        return self.decode(ids).encode("utf-8", "surrogatepass")

    @property
    def labels(self) -> tuple[str, ...]:
        """None: every token is text."""
        return ()

    @property
    def boundary(self) -> None:
        """None: a text begins and ends anywhere."""
        return

    @property
    def slots(self) -> None:
        """None: texts have no gaps."""
        return


def token_dtype(vocabulary_size: int) -> np.dtype[Any]:
    """Return the smallest unsigned integer type that holds all ids of a vocabulary."""
    return np.min_scalar_type(vocabulary_size - 1)


def checked(ids: TokenIds, vocabulary_size: int) -> Int64[np.ndarray, " tokens"]:
    """Return token ids as an array, after a check that they are in the vocabulary.

    Args:
        ids: a sequence, array or tensor.
        vocabulary_size: number of different tokens, **V**.

    Returns:
        The same ids.

    Raises:
        ValueError: an id is outside `0 .. V - 1`.
    """
    values = ids.cpu().numpy() if isinstance(ids, torch.Tensor) else ids
    array = np.asarray(values, dtype=np.int64)
    if array.size and not (array.min() >= 0 and array.max() < vocabulary_size):
        raise ValueError(
            f"Token ids from {array.min()} to {array.max()} cannot be decoded; they must lie in "
            f"0 .. {vocabulary_size - 1}."
        )
    return array
