"""The user's choice of training text: which files, and how they are split."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from stochloc.data import Corpus, SlottedTokenizer, Tokenizer, load_corpus
from stochloc.data.corpora import is_corpus_name, load_mixture
from stochloc.data.labels import parse_classes
from stochloc.data.mixtures import check_weights
from stochloc.data.records.hugging_face import PREFIX
from stochloc.data.records.sources import Reading, is_hugging_face
from stochloc.data.sequence_corpora import SequenceCorpus, load_sequences
from stochloc.data.texts import STANDARD_INPUT, TextSource, file_source, is_read_once
from stochloc.data.tokenizers.named import tokenizer_from_file
from stochloc.data.tokenizers.sequences import SequenceTokenizer
from stochloc.nn.declared import check_types
from stochloc.tasks.hub import find_tokenizer

Named = Mapping[str, str | TextSource]

# The attributes of a choice that name texts.
TEXTS = ("data", "more_data", "valid", "test")
_HELD_OUT = ("valid", "test")
# Attributes that runs of every version have.
_OLD = ("data", "valid", "test", "fractions")


@dataclass(frozen=True)
class DataChoice:
    """Which text a run was trained on, and how it was split.

    Attributes:
        data: A file, a folder, `hf:NAME` or the name of a corpus.
        valid: A validation file of its own, or None.
        test: A test file of its own, or None.
        fractions: Shares of train, valid and test, where they are cut from `data`.
        sequences: Whether every record of the files is a sequence by itself.
        field: The field of the files that is the text, or None.
        hf_split: The split of a Hugging Face data set, or None.
        more_data: What else there is, like `data`.
        weights: The share of `data`, and of each of `more_data`, among training windows, in any
            unit; () for the texts' sizes.
    """

    data: str
    valid: str | None = None
    test: str | None = None
    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    sequences: bool = False
    field: str | None = None
    hf_split: str | None = None
    more_data: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        check_weights(self.weights, 1 + len(self.more_data))
        if self.weights and self.sequences:
            raise ValueError("Sequences are drawn by their tokens: leave out --weights.")

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "DataChoice":
        """Return the choice whose attributes these are.

        Args:
            facts: JSON values; the attributes that came later than the first four may be absent.

        Returns:
            An equal choice.

        Raises:
            KeyError, TypeError, ValueError: A value is missing or of another type.
        """
        settings: dict[str, Any] = {
            f.name: tuple(facts[f.name]) if isinstance(f.default, tuple) else facts[f.name]
            for f in fields(cls)
            if f.name in facts or f.name in _OLD
        }
        choice = cls(**settings)
        names = [*choice.named().values(), choice.field or "", choice.hf_split or ""]
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a name is not a text")
        return choice

    @property
    def reading(self) -> Reading:
        """How the files are read."""
        return Reading(self.field, self.hf_split)

    def read_by(self, reading: Reading) -> "DataChoice":
        """Return the same choice of texts with another field or split of theirs."""
        return replace(self, field=reading.field, hf_split=reading.split)

    def named(self) -> dict[str, str]:
        """Return the texts that were given for `data` (`data 2`, ...), `valid` and `test`."""
        return places(self.data, self.more_data, self.valid, self.test)

    def at(self, places: Mapping[str, str]) -> "DataChoice":
        """Return the same choice of texts that are elsewhere.

        Args:
            places: Where they are, by their names in `named`; those left out stay.

        Returns:
            The choice.

        Raises:
            KeyError: There is no text of this name.
        """
        texts = self.named()
        unknown = places.keys() - texts.keys()
        if unknown:
            raise KeyError(", ".join(sorted(unknown)))
        texts |= places
        held_out = {name: texts.pop(name) for name in _HELD_OUT if name in texts}
        data, *more = texts.values()
        return replace(self, data=data, more_data=tuple(more), **held_out)

    def absolute(self) -> "DataChoice":
        """Return the same choice with absolute paths; names of corpora and `-` are unchanged."""
        return self.at({name: absolute_data(text) for name, text in self.named().items()})

    def load(
        self, tokenizer: Tokenizer | str | None, slots: bool = False
    ) -> Corpus | SequenceCorpus:
        """Return the corpus.

        Args:
            tokenizer: How it becomes tokens, or the name of that, also of a repository on the hub;
                None for the corpus's default.
            slots: Whether to lay out the texts of that tokenizer in slots.

        Returns:
            The corpus, of sequences if this is a choice of some.

        Raises:
            ValueError: A file is missing, empty or not readable as text, or slots are wanted of
                sequences.
        """
        if self.sequences and slots:
            raise ValueError("Sequences cannot be laid out in slots: leave out one of the two.")
        if self.more_data and slots:
            raise ValueError("Several texts cannot be laid out in slots: leave out --slots.")
        texts = opened(self.named())
        if isinstance(tokenizer, str) and (file := find_tokenizer(tokenizer)) is not None:
            found = tokenizer_from_file(file, tokenizer)
            tokenizer = SequenceTokenizer(found) if self.sequences else found
        corpus = self.load_from(texts, tokenizer)
        return self.load_from(texts, SlottedTokenizer(corpus.tokenizer)) if slots else corpus

    def load_text(self, tokenizer: Tokenizer | str | None) -> Corpus:
        """Return the corpus of a choice of texts without ends; as `load` otherwise."""
        corpus = self.load(tokenizer)
        assert isinstance(corpus, Corpus)
        return corpus

    def load_from(
        self, texts: Named, tokenizer: Tokenizer | str | None, leave_out: bool = True
    ) -> Corpus | SequenceCorpus:
        """Return the corpus made of given texts, split as this choice says.

        Args:
            texts: What stands for `data`, and for `valid` and `test` if they are texts of their
                own.
            tokenizer: How they become tokens; None for the corpus's default.
            leave_out: Whether held-out sequences that the tokenizer cannot encode are left out, or
                refused.

        Returns:
            The corpus, of sequences if this is a choice of some.

        Raises:
            ValueError: A text is missing, empty or not readable.
        """
        data = [texts[name] for name in self.named() if name not in _HELD_OUT]
        load = self._loader(data, leave_out)
        return load(
            tokenizer=tokenizer, valid=texts.get("valid"), test=texts.get("test"),
            fractions=self.fractions, reading=self.reading,
        )  # fmt: skip

    def _loader(
        self, data: list[str | TextSource], leave_out: bool
    ) -> Callable[..., Corpus | SequenceCorpus]:
        if self.sequences:
            records = data if self.more_data else data[0]
            return partial(load_sequences, records, leave_out=leave_out)
        if self.more_data:
            return partial(load_mixture, data, self.weights)
        return partial(load_corpus, data[0])


def places(
    data: str | None, more_data: Sequence[str] | None, valid: str | None, test: str | None
) -> dict[str, str]:
    """Return texts by their names in `DataChoice.named`.

    Args:
        data: The first text, or None.
        more_data: Others like it, or None.
        valid: The validation text, or None.
        test: The test text, or None.

    Returns:
        Those that are not None.
    """
    more = {f"data {number}": text for number, text in enumerate(more_data or (), 2)}
    texts = {"data": data, **more, "valid": valid, "test": test}
    return {name: text for name, text in texts.items() if text is not None}


def opened(named: Mapping[str, str]) -> dict[str, str | TextSource]:
    """Return texts that can be read as often as needed, pipes included.

    Args:
        named: `data`, `valid` or `test` and what a user gave for it: a file, a pipe, `-`, the name
            of a corpus.

    Returns:
        The same, with pipes and standard input already read.
    """
    return {name: file_source(text) if is_read_once(text) else text for name, text in named.items()}


def is_same_text(data: str, own: str) -> bool:
    """Return whether two data choices mean the same file or corpus.

    Args:
        data: A file or the name of a corpus.
        own: Another.

    Returns:
        Whether they are the same name or the same file.
    """
    if data == own:
        return True
    return os.path.exists(data) and os.path.exists(own) and os.path.samefile(data, own)


def absolute_data(data: str) -> str:
    """Return what a user gave as data with absolute paths in it.

    Args:
        data: A file, `NAME=FILE,NAME=FILE`, `-`, `hf:NAME`, `hf:FOLDER` or the name of a corpus.

    Returns:
        The same from any working directory. A path that cannot be written in the form of labelled
        texts, one with a comma in it, is unchanged.
    """
    if data == STANDARD_INPUT or (is_corpus_name(data) and not Path(data).is_file()):
        return data
    if is_hugging_face(data):
        place = data.removeprefix(PREFIX)
        return f"{PREFIX}{os.path.abspath(place)}" if os.path.isdir(place) else data
    classes = {} if Path(data).exists() else parse_classes(data)
    if not classes:
        return os.path.abspath(data)
    paths = {name: os.path.abspath(file) for name, file in classes.items()}
    if any("," in path for path in paths.values()):
        return data
    return ",".join(f"{name}={path}" for name, path in paths.items())
