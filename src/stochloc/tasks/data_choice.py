"""The user's choice of training text: which files, and how they are split."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stochloc.data import Corpus, SlottedTokenizer, Tokenizer, load_corpus
from stochloc.data.corpora import is_corpus_name
from stochloc.data.labels import parse_classes
from stochloc.data.sequence_corpora import SequenceCorpus, load_sequences
from stochloc.data.texts import STANDARD_INPUT, TextSource, file_source, is_read_once
from stochloc.data.tokenizers.named import tokenizer_from_file
from stochloc.data.tokenizers.sequences import SequenceTokenizer
from stochloc.nn.declared import check_types
from stochloc.tasks.hub import find_tokenizer

Named = Mapping[str, str | TextSource]


@dataclass(frozen=True)
class DataChoice:
    """Which text a run was trained on, and how it was split.

    Attributes:
        data: A file or the name of a corpus.
        valid: A validation file of its own, or None.
        test: A test file of its own, or None.
        fractions: Shares of train, valid and test, where they are cut from `data`.
        sequences: Whether every record of the files is a sequence by itself.
    """

    data: str
    valid: str | None = None
    test: str | None = None
    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    sequences: bool = False

    def __post_init__(self) -> None:
        check_types(self)

    def named(self) -> dict[str, str]:
        """Return the texts that were given for `data`, `valid` and `test`."""
        texts = {"data": self.data, "valid": self.valid, "test": self.test}
        return {name: text for name, text in texts.items() if text is not None}

    def absolute(self) -> "DataChoice":
        """Return the same choice with absolute paths; names of corpora and `-` are unchanged."""
        return replace(self, **{name: absolute_data(text) for name, text in self.named().items()})

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

    def load_from(self, texts: Named, tokenizer: Tokenizer | str | None) -> Corpus | SequenceCorpus:
        """Return the corpus made of given texts, split as this choice says.

        Args:
            texts: What stands for `data`, and for `valid` and `test` if they are texts of their
                own.
            tokenizer: How they become tokens; None for the corpus's default.

        Returns:
            The corpus, of sequences if this is a choice of some.

        Raises:
            ValueError: A text is missing, empty or not readable.
        """
        load = load_sequences if self.sequences else load_corpus
        return load(
            texts["data"], tokenizer,
            valid=texts.get("valid"), test=texts.get("test"), fractions=self.fractions,
        )  # fmt: skip


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
    return Path(data).is_file() and Path(own).is_file() and Path(data).samefile(own)


def absolute_data(data: str) -> str:
    """Return what a user gave as data with absolute paths in it.

    Args:
        data: A file, `NAME=FILE,NAME=FILE`, `-` or the name of a corpus.

    Returns:
        The same from any working directory. A path that cannot be written in the form of labelled
        texts, one with a comma in it, is unchanged.
    """
    if data == STANDARD_INPUT or (is_corpus_name(data) and not Path(data).is_file()):
        return data
    classes = {} if Path(data).exists() else parse_classes(data)
    if not classes:
        return os.path.abspath(data)
    paths = {name: os.path.abspath(file) for name, file in classes.items()}
    if any("," in path for path in paths.values()):
        return data
    return ",".join(f"{name}={path}" for name, path in paths.items())
