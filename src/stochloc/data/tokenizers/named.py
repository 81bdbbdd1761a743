"""The tokenizers by name: the one table that a new one joins.

Every tokenizer turns text into integers `0 .. vocabulary_size - 1`. Encoding a stream gives the
same ids as encoding the whole, however the bytes are cut, in memory that does not grow with the
text. A new tokenizer is one file that follows the `Tokenizer` protocol and one line in
`TOKENIZERS`, by which a user chooses it and a run is read again. One that needs a setting is chosen
by a line in `LEARNED`, and read again by one in `STORED`.
Knows nothing of caches, corpora or splits.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from stochloc.data.texts import read_chunks
from stochloc.data.tokenizers.bytes import ByteTokenizer
from stochloc.data.tokenizers.characters import CharacterTokenizer
from stochloc.data.tokenizers.choices import BytePairs, Choice, Stored, TrainingWords
from stochloc.data.tokenizers.labelled import LabelledTokenizer
from stochloc.data.tokenizers.library import MOST_BYTES
from stochloc.data.tokenizers.protocol import Tokenizer
from stochloc.data.tokenizers.sequences import SequenceTokenizer
from stochloc.data.tokenizers.slotted import SlottedTokenizer
from stochloc.data.tokenizers.subwords import SubwordTokenizer
from stochloc.data.tokenizers.text8 import Text8Tokenizer
from stochloc.data.tokenizers.words import WordTokenizer


class Remade(Tokenizer, Protocol):
    """A tokenizer that can be remade from its facts."""

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Tokenizer:
        """Return the tokenizer whose `to_dict` gave these facts."""
        ...


class Named(Remade, Protocol):
    """A tokenizer that can be chosen for a training text."""

    @classmethod
    def for_text(cls, chunks: Iterable[bytes]) -> Tokenizer:
        """Return the tokenizer for a training text, given as UTF-8 bytes."""
        ...

    @classmethod
    def for_texts(cls, texts: Iterable[Iterable[bytes]]) -> Tokenizer:
        """Return the tokenizer for several texts, each by itself."""
        ...

    @classmethod
    def for_records(cls, records: Iterable[str]) -> Tokenizer:
        """Return the tokenizer for training texts that are sequences, each by itself."""
        ...


# Name, which is also the `kind` in `to_dict`: the class.
TOKENIZERS: dict[str, type[Named]] = {
    "characters": CharacterTokenizer,
    "bytes": ByteTokenizer,
    "text8": Text8Tokenizer,
    "words": WordTokenizer,
}
# Learned from training text alone: the form of the name, and what reads what is behind its colon.
LEARNED: dict[str, Callable[[str], Choice]] = {
    "bpe:N": BytePairs.parse,
    "words:train": TrainingWords.parse,
}
# Read from a run or a file, by their `kind`; a user chooses them by other names.
STORED: dict[str, type[Remade]] = {"subwords": SubwordTokenizer}
# These are laid around another tokenizer, whose facts are their `inner`.
AROUND: dict[str, type[Remade]] = {
    "labelled": LabelledTokenizer,
    "sequences": SequenceTokenizer,
    "slotted": SlottedTokenizer,
}


def tokenizer_from_dict(facts: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer whose `to_dict` gave these facts.

    Args:
        facts: the tokenizer's kind, a name in `TOKENIZERS`, `STORED` or `AROUND`, and its settings.

    Returns:
        An equal tokenizer.

    Raises:
        ValueError: the kind is not known, or its settings are missing or wrong.
    """
    kinds: Mapping[str, type[Remade]] = {**TOKENIZERS, **STORED, **AROUND}
    kind = facts.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(
            f"No tokenizer is described by {str(dict(facts))[:200]}; the known kinds are "
            f"{', '.join(kinds)}."
        )
    inner = facts.get("inner")
    if isinstance(inner, Mapping):
        facts = {**facts, "inner": tokenizer_from_dict(inner)}
    try:
        return kinds[kind].from_dict(facts)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"No tokenizer of the kind {kind} is described by {str(dict(facts))[:200]} ({error})."
        ) from error


def make_tokenizer(name: str, train_path: str | Path) -> Tokenizer:
    """Return the tokenizer of this name for a training text.

    Args:
        name: as for `tokenizer_for`.
        train_path: the training text; read only if the tokenizer depends on it, as on its alphabet.

    Returns:
        A tokenizer that can encode the training text.

    Raises:
        ValueError: the name is not known, or no tokenizer can be made for the file.
    """
    return tokenizer_for(name, read_chunks(train_path))


def tokenizer_for(name: str, chunks: Iterable[bytes]) -> Tokenizer:
    """Return the tokenizer of this name for a text given as UTF-8 bytes.

    Args:
        name: a name in `TOKENIZERS`; one of a form in `LEARNED`, `bpe:8000`; or a file that
            `tokenizer_from_file` reads.
        chunks: the training text; read only if the tokenizer depends on it.

    Returns:
        A tokenizer; that of a file need not be able to encode the text.

    Raises:
        ValueError: the name is not known, or no tokenizer can be made for the text.
    """
    return choice_of(name).for_text(chunks)


def sequence_tokenizer_for(name: str, records: Iterable[str]) -> SequenceTokenizer:
    """Return the tokenizer of this name, with a boundary, for texts that are sequences.

    Args:
        name: as for `tokenizer_for`.
        records: the training texts; read only if the tokenizer depends on them.

    Returns:
        A tokenizer; that of a file need not be able to encode the texts.

    Raises:
        ValueError: the name is not known, or no tokenizer can be made for the texts.
    """
    return SequenceTokenizer(choice_of(name).for_records(records))


def is_learned(name: str) -> bool:
    """Return whether a tokenizer is learned from training text alone."""
    return _parser(name) is not None


def choice_of(name: str) -> Choice:
    """Return what makes the tokenizer of this name.

    Args:
        name: as for `tokenizer_for`.

    Returns:
        A class, or a value with the setting in the name.

    Raises:
        ValueError: the name is not known, or its setting or file not usable.
    """
    if name in TOKENIZERS:
        return TOKENIZERS[name]
    parse = _parser(name)
    if parse is not None:
        return parse(name.partition(":")[2])
    if name.endswith(".json"):
        return Stored(tokenizer_from_file(name))
    forms = (*TOKENIZERS, *LEARNED, "FILE.json")
    raise ValueError(f"There is no tokenizer {name!r}; there are {', '.join(forms)}.")


def _parser(name: str) -> Callable[[str], Choice] | None:
    """Return what reads the setting in the name of a learned tokenizer; None for any other name."""
    if name in TOKENIZERS:
        return None
    parsers = {form.partition(":")[0]: parse for form, parse in LEARNED.items()}
    return parsers.get(name.partition(":")[0])


def tokenizer_from_file(path: str | Path, name: str | None = None) -> Tokenizer:
    """Return the tokenizer of a JSON file: of the package `tokenizers`, or of a run.

    Args:
        path: the file.
        name: what a user called it; None: the path.

    Returns:
        The tokenizer.

    Raises:
        ValueError: there is no such file, or it is not a tokenizer.
    """
    name = str(path) if name is None else name
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise ValueError(f"{name} is larger than any tokenizer, {MOST_BYTES} bytes.")
        text = Path(path).read_text(encoding="utf-8")
        facts = json.loads(text)
    except OSError as error:
        raise ValueError(f"The tokenizer {name} cannot be read: {error.strerror}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{name} is not a tokenizer: it is not JSON ({error}).") from error
    if isinstance(facts, dict) and "kind" in facts:
        # Of a run: what is laid around its tokenizer belongs to the run.
        while isinstance(facts.get("inner"), dict):
            facts = facts["inner"]
        return tokenizer_from_dict(facts)
    return SubwordTokenizer.from_json(text, name)
