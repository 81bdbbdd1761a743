"""Text to token ids and back, whole or as a stream of bytes.

Every tokenizer turns text into integers `0 .. vocabulary_size - 1`. Encoding a stream gives the
same ids as encoding the whole, however the bytes are cut, in memory that does not grow with the
text. A new tokenizer is one file that follows the `Tokenizer` protocol, and one line in each of the
two tables here: `tokenizer_from_dict`, which reads it from a run, and `TOKENIZERS`, which names it.
Knows nothing of caches, corpora or splits.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stochloc.data.codepoints import discover_alphabet
from stochloc.data.normalisation import PlainBytes
from stochloc.data.texts import read_chunks
from stochloc.data.tokenizers.bytes import ByteTokenizer
from stochloc.data.tokenizers.characters import CharacterTokenizer
from stochloc.data.tokenizers.labelled import LabelledTokenizer
from stochloc.data.tokenizers.protocol import Tokenizer
from stochloc.data.tokenizers.slotted import SlottedTokenizer
from stochloc.data.tokenizers.text8 import Text8Tokenizer


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
    if name not in TOKENIZERS:
        raise ValueError(f"There is no tokenizer {name!r}; there are {', '.join(TOKENIZERS)}.")
    return TOKENIZERS[name](chunks)


def _of_alphabet(chunks: Iterable[bytes]) -> Tokenizer:
    return CharacterTokenizer(discover_alphabet(PlainBytes(chunks)))


# Name: what it makes of a training text.
TOKENIZERS: dict[str, Callable[[Iterable[bytes]], Tokenizer]] = {
    "characters": _of_alphabet,
    "bytes": lambda _: ByteTokenizer(),
    "text8": lambda _: Text8Tokenizer(),
}
