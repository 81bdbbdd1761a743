"""Corpora of sequences: each record of a file one, split into training, validation and test part.

A sequence goes where a hash of its text says: with `u` the hash as a number in [0, 1), to train
where u is less than the share of train, and so on. So all copies of a text are in one part, a split
does not depend on the tokenizer or on the order of the records, and more records leave those that
are there where they are. The price is that shares are met on average only, as if each different
text were drawn by itself. A part that has a file of its own holds all of that file; what it shares
with the training part is counted.

Sequences of several classes, each of a file of its own, are split like those of one file: a text
that is in two classes is in the same part with either label, and such texts are counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from stochloc.data.corpora import Fractions, classes_of, is_corpus_name, shares_of
from stochloc.data.labels import label_token
from stochloc.data.learning import tokenizer_for_sequences
from stochloc.data.records.base import RecordSource, chained
from stochloc.data.records.sources import Reading
from stochloc.data.sequence_files import encode_records
from stochloc.data.sequences import Sequences
from stochloc.data.texts import TextSource
from stochloc.data.tokenizers.labelled import LabelledTokenizer
from stochloc.data.tokenizers.protocol import Tokenizer

Records = str | Path | TextSource | RecordSource

_AS_LINES = Reading()
# What holds sequences without classes, among those by the names of classes.
_UNNAMED = ""


@dataclass(frozen=True, eq=False)
class SequenceCorpus:
    """Training, validation and test sequences.

    Attributes:
        train: sequences to learn from.
        valid: held out to choose among models; may be empty.
        test: held out to evaluate the chosen one; may be empty.
        tokenizer: the tokenizer that encoded them; it has a boundary.
        name: the name of the file.
        source: where the sequences came from.
    """

    train: Sequences
    valid: Sequences
    test: Sequences
    tokenizer: Tokenizer
    name: str
    source: str

    @property
    def parts(self) -> dict[str, Sequences]:
        """The three parts by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def fingerprint(self) -> dict[str, str]:
        """Return a checksum of each part, which identifies the sequences and their order.

        Returns:
            SHA-256 by the name of the part.
        """
        return {name: part.checksum() for name, part in self.parts.items()}

    def check_training(self) -> None:
        """Refuse a training part from which something cannot be learned.

        Raises:
            ValueError: there are no training sequences, or none of a class.
        """
        if not len(self.train):
            raise ValueError(f"{self.source} has too few sequences to split; give more of them.")
        seen = () if self.train.labels is None else np.unique(self.train.labels)
        missing = [
            name for name in self.tokenizer.labels if label_token(self.tokenizer, name) not in seen
        ]
        if missing:
            raise ValueError(
                f"No training sequence is of the class {missing[0]}: give more of them, as "
                "NAME=FILE,NAME=FILE, or other --fractions."
            )

    def cut(self, longest: int) -> "SequenceCorpus":
        """Return the corpus with what is beyond a number of tokens of text left out."""
        train, valid, test = (part.cut(longest) for part in self.parts.values())
        return SequenceCorpus(train, valid, test, self.tokenizer, self.name, self.source)

    def remarks(self, longest: int) -> Iterator[str]:
        """Yield what a person should know of the sequences before a model is trained on them.

        Args:
            longest: the tokens of text that a sequence may have.

        Yields:
            Sentences: how many sequences will be cut, how many repeat another, how many are of
            several classes, and how many held-out ones are also in the training part.
        """
        num = sum(map(len, self.parts.values()))
        cut = sum(part.num_longer(longest) for part in self.parts.values())
        if cut:
            yield (
                f"{cut:,} of {num:,} sequences are longer than {longest} tokens and are cut there; "
                "a greater --length takes them whole."
            )
        several = _num_of_several_classes(list(self.parts.values()))
        if several:
            yield f"{several:,} of {num:,} sequences are in more than one class."
        copies = len(self.train) - len(np.unique(self.train.hashes))
        if copies:
            yield f"{copies:,} of {len(self.train):,} training sequences repeat an earlier one."
        for name, part in (("validation", self.valid), ("test", self.test)):
            seen = int(np.isin(part.hashes, self.train.hashes).sum())
            if seen:
                yield (
                    f"{seen:,} of {len(part):,} {name} sequences are also in the training part, "
                    "so figures on them are of what the model has seen."
                )


def load_sequences(
    data: Records | Sequence[Records],
    tokenizer: Tokenizer | str | None = None,
    *,
    valid: Records | None = None,
    test: Records | None = None,
    fractions: Fractions = (0.9, 0.05, 0.05),
    reading: Reading = _AS_LINES,
    cache_dir: str | Path | None = None,
    leave_out: bool = True,
) -> SequenceCorpus:
    """Return a corpus of sequences, encoded by the first call and memory-mapped by later ones.

    Args:
        data: what holds the records, by its name, or the records themselves; or several of these,
            whose records follow each other. Sequences of several classes are given as
            `NAME=FILE,NAME=FILE`; each then has its label.
        tokenizer: a tokenizer with a boundary, or a name in `data.tokenizers.named.TOKENIZERS`;
            None: characters. An alphabet is that of all records given; what is learned is learned
            from training records alone.
        valid: the validation records, if they are a separate file; with classes as `data` has.
        test: the test records, likewise.
        fractions: the shares of train, valid and test; they sum to 1. A part that is given as a
            separate file is not cut from `data`; its fraction goes to train.
        reading: which field of the files is the text.
        cache_dir: the cache folder; None: `$STOCHLOC_CACHE`, or else `~/.cache/stochloc`.
        leave_out: whether held-out records that the tokenizer cannot encode are left out and named
            in a note to the user, or refused as training records are.

    Returns:
        The three parts and their tokenizer.

    Raises:
        ValueError: the fractions are invalid, a file cannot be read or encoded, a record is empty,
            or held-out records have other classes.
    """
    shares = shares_of(fractions, valid is not None, test is not None)
    sources = _sources(data, reading)
    own = [None if text is None else _sources(text, reading) for text in (valid, test)]
    if any(given is not None and not given.keys() <= sources.keys() for given in own):
        raise ValueError(
            "Held-out sequences need the classes of --data: give each file of --valid and --test "
            "as NAME=FILE if --data is given so, and as it is if not."
        )
    if tokenizer is None or isinstance(tokenizer, str):
        texts = list(sources.values())
        others = [source for given in own if given is not None for source in given.values()]
        name = tokenizer or "characters"
        tokenizer = tokenizer_for_sequences(name, texts, shares[0], others, cache_dir)
    if _UNNAMED not in sources and not tokenizer.labels:
        tokenizer = LabelledTokenizer(tokenizer, tuple(sources))
    needed = shares[0] if leave_out else 1.0
    parts = split_by_hash(_encoded(sources, tokenizer, cache_dir, needed), shares)
    held_out = [
        part if given is None else _encoded(given, tokenizer, cache_dir, 0.0 if leave_out else 1.0)
        for given, part in zip(own, parts[1:], strict=True)
    ]
    called = ", ".join(source.name for source in sources.values())
    name = Path(called).name if _UNNAMED in sources else ", ".join(sources)
    return SequenceCorpus(parts[0], held_out[0], held_out[1], tokenizer, name, called)


def split_by_hash(
    sequences: Sequences, fractions: Fractions
) -> tuple[Sequences, Sequences, Sequences]:
    """Split sequences into three parts by the hashes of their texts.

    Args:
        sequences: any number of them.
        fractions: the parts' shares, which sum to 1; a share of 0 gives an empty part.

    Returns:
        Train, valid and test, each in the order of the records. Equal texts are in one part, which
        depends on the text and the shares alone.
    """
    u = sequences.hashes / 2.0**64
    part = np.searchsorted(list(accumulate(fractions))[:2], u, side="right")
    train, valid, test = (sequences.taken(part == number) for number in range(3))
    return train, valid, test


def _sources(data: Records | Sequence[Records], reading: Reading) -> Mapping[str, RecordSource]:
    """Return what holds the records of each class, or of the one that has no name."""
    if isinstance(data, str | Path) and (classes := classes_of(data)):
        return {name: reading.records(file) for name, file in classes.items()}
    if isinstance(data, list | tuple) and any(isinstance(d, str) and classes_of(d) for d in data):
        raise ValueError("Sequences of classes, NAME=FILE,NAME=FILE, cannot be joined with others.")
    return {_UNNAMED: _source(data, reading)}


def _encoded(
    sources: Mapping[str, RecordSource],
    tokenizer: Tokenizer,
    cache_dir: str | Path | None,
    needed: float,
) -> Sequences:
    """Return the sequences of all classes, each with its label if it has one."""
    # The tokens of a text do not depend on its class.
    plain = tokenizer.inner if isinstance(tokenizer, LabelledTokenizer) else tokenizer
    parts = []
    for name, source in sources.items():
        part = encode_records(source, plain, cache_dir, needed)
        parts.append(part if name == _UNNAMED else part.labelled(label_token(tokenizer, name)))
    return Sequences.joined(parts)


def _num_of_several_classes(parts: Sequence[Sequences]) -> int:
    """Return how many sequences have a text that also has another label."""
    labels = [part.labels for part in parts if part.labels is not None]
    if not labels:
        return 0
    hashes = np.concatenate([part.hashes for part in parts])
    _, text, copies = np.unique(hashes, return_inverse=True, return_counts=True)
    pairs = np.unique(np.stack([text, np.concatenate(labels)]), axis=1)
    is_of_several = np.bincount(pairs[0], minlength=len(copies)) > 1
    return int(copies[is_of_several].sum())


def _source(data: Records | Sequence[Records], reading: Reading) -> RecordSource:
    if isinstance(data, RecordSource):
        return data
    if isinstance(data, Sequence) and not isinstance(data, str):
        sources = [_source(one, reading) for one in data]
        return chained(sources, ", ".join(source.name for source in sources))
    if not isinstance(data, TextSource) and is_corpus_name(data) and not Path(data).is_file():
        raise ValueError(f"{data} is one endless text, not sequences; give a file of records.")
    return reading.records(data)
