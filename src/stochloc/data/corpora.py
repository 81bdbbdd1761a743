"""Corpora: a text encoded once and cut into training, validation and test tokens.

Resolves what a user names, a file or a known corpus, and splits it. `texts`, `token_files` and
`tokenizers` read, cache and encode; `windows` cuts windows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from stochloc.data.builtin import builtin_source
from stochloc.data.labels import headed, parse_classes
from stochloc.data.learning import Divided
from stochloc.data.mixtures import Mixture, check_weights
from stochloc.data.records.sources import Reading
from stochloc.data.text8 import text8_source
from stochloc.data.texts import TextSource
from stochloc.data.token_files import TokenFile, encode_file, encode_source
from stochloc.data.tokenizers.labelled import LabelledTokenizer
from stochloc.data.tokenizers.protocol import Tokenizer
from stochloc.data.tokenizers.text8 import Text8Tokenizer

__all__ = ["Corpus", "TokenFile", "encode_file", "load_corpus"]

Fractions = tuple[float, float, float]
Text = str | Path | TextSource

_AS_TEXT = Reading()
_NAMED = {"text8": text8_source, "builtin": builtin_source}


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training, validation and test tokens.

    Attributes:
        train: shape (tokens,), like the others; often a slice of a memory-mapped file.
        valid: held out to choose among models; may be empty.
        test: held out to evaluate the chosen one; may be empty.
        tokenizer: the tokenizer that encoded the text.
        name: the name that the user gave, or that of the file.
        source: where the text came from.
        mixture: how training windows are drawn where there are several texts; None where one.
        held_out: the same of the other parts that are of several texts, by their names.
    """

    train: Integer[np.ndarray, " train"]
    valid: Integer[np.ndarray, " valid"]
    test: Integer[np.ndarray, " test"]
    tokenizer: Tokenizer
    name: str
    source: str
    mixture: Mixture | None = None
    held_out: Mapping[str, Mixture] = field(default_factory=dict)

    def fingerprint(self) -> dict[str, str]:
        """Return a checksum of the tokens of each part, which identifies the text.

        Returns:
            SHA-256 by the name of the part.
        """
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {
            name: sha256(np.ascontiguousarray(part).data).hexdigest()
            for name, part in parts.items()
        }


def is_corpus_name(data: str | Path) -> bool:
    """Return whether this is the name of a known corpus.

    Args:
        data: what a user gave as data.
    """
    return str(data) in _NAMED


def load_corpus(
    data: Text,
    tokenizer: Tokenizer | str | None = None,
    *,
    valid: Text | None = None,
    test: Text | None = None,
    fractions: Fractions = (0.9, 0.05, 0.05),
    reading: Reading = _AS_TEXT,
    cache_dir: str | Path | None = None,
) -> Corpus:
    """Return a corpus, encoded by the first call and memory-mapped by later ones.

    The parts are contiguous: train comes first, then valid, then test. A part that is given as a
    separate file is not cut from `data`; its fraction goes to train.

    Args:
        data: a file of any format of `data.records`, a folder, a pipe, `-` for standard input, a
            source, or one of the names "text8" and "builtin" (the King James Bible). A file with
            one of these names in the working directory takes precedence; `./text8` always means
            the file. Texts of several classes are given as `NAME=FILE,NAME=FILE`; their tokens are
            labelled (`data.labels`).
        tokenizer: a tokenizer, or a name in `data.tokenizers.named.TOKENIZERS`; None: text8 for the
            corpora known by name, characters for files. An alphabet is that of all texts given;
            what is learned is learned from training text alone (`data.learning`).
        valid: the validation text, if it is a separate file.
        test: the test text, if it is a separate file.
        fractions: the shares of train, valid and test; they sum to 1.
        reading: which field of the files is the text.
        cache_dir: the cache folder; None: `$STOCHLOC_CACHE`, or else `~/.cache/stochloc`.

    Returns:
        The three parts and their tokenizer.

    Raises:
        ValueError: the fractions are invalid, a file or corpus cannot be read or encoded, or the
            text is too short to leave tokens for training.
    """
    shares = shares_of(fractions, valid is not None, test is not None)
    classes = classes_of(data)
    if classes:
        if valid is not None or test is not None:
            raise ValueError("Labelled texts are split by fractions; leave out --valid and --test.")
        return _load_labelled(classes, tokenizer, fractions, reading, cache_dir)
    named = _is_named(data)
    source = _source(data, reading)
    own = [None if text is None else _source(text, reading) for text in (valid, test)]
    if tokenizer is None:
        tokenizer = Text8Tokenizer() if named else "characters"
    if isinstance(tokenizer, str):
        tokenizer = _tokenizer_for(tokenizer, [source], shares, own, cache_dir)
    parts = split(encode_source(source, tokenizer, cache_dir).tokens, shares)
    if not len(parts[0]):
        raise ValueError(f"{source.name} is too short to split; give a longer text.")
    held_out = [
        part if text is None else encode_source(text, tokenizer, cache_dir).tokens
        for text, part in zip(own, parts[1:], strict=True)
    ]
    name = str(data) if named else Path(source.name).name
    return Corpus(parts[0], held_out[0], held_out[1], tokenizer, name, source.name)


def load_mixture(
    texts: Sequence[Text],
    weights: Sequence[float] = (),
    tokenizer: Tokenizer | str | None = None,
    *,
    valid: Text | None = None,
    test: Text | None = None,
    fractions: Fractions = (0.9, 0.05, 0.05),
    reading: Reading = _AS_TEXT,
    cache_dir: str | Path | None = None,
) -> Corpus:
    """Return the corpus of several texts, each split by itself (`data.mixtures`).

    Args:
        texts: what `load_corpus` takes, but texts of several classes; at least one.
        weights: the share of each among training windows, in any unit; none: the texts' sizes.
        tokenizer: as for `load_corpus`.
        valid: as for `load_corpus`, like the others.
        test: see there.
        fractions: see there.
        reading: see there.
        cache_dir: see there.

    Returns:
        The three parts and their tokenizer; each part is that of all texts, one after the other.

    Raises:
        ValueError: as `load_corpus`, the weights do not fit, or a text has classes.
    """
    check_weights(weights, len(texts))
    if any(classes_of(text) for text in texts):
        raise ValueError("Texts of classes, NAME=FILE,NAME=FILE, cannot be mixed with others.")
    sources = [_source(text, reading) for text in texts]
    if tokenizer is None:
        tokenizer = Text8Tokenizer() if all(map(_is_named, texts)) else "characters"
    shares = shares_of(fractions, valid is not None, test is not None)
    own = [None if text is None else _source(text, reading) for text in (valid, test)]
    if isinstance(tokenizer, str):
        tokenizer = _tokenizer_for(tokenizer, sources, shares, own, cache_dir)
    corpora = [
        load_corpus(source, tokenizer, fractions=shares, cache_dir=cache_dir) for source in sources
    ]
    held_out = [
        np.concatenate([getattr(corpus, part) for corpus in corpora])
        if text is None
        else encode_source(text, tokenizer, cache_dir).tokens
        for text, part in zip(own, ("valid", "test"), strict=True)
    ]
    train = np.concatenate([corpus.train for corpus in corpora])
    names = ", ".join(corpus.name for corpus in corpora)
    source = ", ".join(corpus.source for corpus in corpora)
    mixtures = {
        part: Mixture(tuple(len(getattr(corpus, part)) for corpus in corpora), tuple(weights))
        for part, text in (("train", None), ("valid", valid), ("test", test))
        if text is None
    }
    mixture = mixtures.pop("train")
    return Corpus(train, held_out[0], held_out[1], tokenizer, names, source, mixture, mixtures)


def classes_of(data: Text) -> dict[str, str]:
    """Return the files of texts of several classes by the names of these; empty for one text."""
    is_one_text = isinstance(data, TextSource) or Path(data).exists()
    return {} if is_one_text else parse_classes(str(data))


def _is_named(data: Text) -> bool:
    return isinstance(data, str) and data in _NAMED and not Path(data).is_file()


def _source(data: Text, reading: Reading) -> TextSource:
    if not _is_named(data):
        return reading.text(data)
    if reading != _AS_TEXT:
        raise ValueError(f"{data} is one text, without fields or splits; leave out --field.")
    return _NAMED[str(data)]()


def _tokenizer_for(
    name: str,
    sources: Sequence[TextSource],
    shares: Fractions,
    held_out: Sequence[TextSource | None],
    cache_dir: str | Path | None,
) -> Tokenizer:
    """Return the tokenizer of a name for texts of which each is split, and others held out."""

    def encode(source: TextSource, tokenizer: Tokenizer) -> np.ndarray:
        return encode_source(source, tokenizer, cache_dir).tokens

    own = [text for text in held_out if text is not None]
    return Divided(sources, shares[0], own, encode).tokenizer(name)


def _load_labelled(
    classes: dict[str, str],
    tokenizer: Tokenizer | str | None,
    fractions: Fractions,
    reading: Reading,
    cache_dir: str | Path | None,
) -> Corpus:
    sources = {name: reading.text(file) for name, file in classes.items()}
    if isinstance(tokenizer, LabelledTokenizer):
        labelled = tokenizer
    elif isinstance(tokenizer, str) or tokenizer is None:
        name, texts = tokenizer or "characters", list(sources.values())
        inner = _tokenizer_for(name, texts, shares_of(fractions, False, False), (), cache_dir)
        labelled = LabelledTokenizer(inner, tuple(classes))
    else:
        labelled = LabelledTokenizer(tokenizer, tuple(classes))
    corpora = {
        name: load_corpus(source, labelled.inner, fractions=fractions, cache_dir=cache_dir)
        for name, source in sources.items()
    }
    parts = [
        np.concatenate([headed(getattr(corpora[name], part), name, labelled) for name in classes])
        for part in ("train", "valid", "test")
    ]
    source = ", ".join(corpus.source for corpus in corpora.values())
    return Corpus(parts[0], parts[1], parts[2], labelled, ", ".join(classes), source)


def split(
    tokens: Integer[np.ndarray, " tokens"], fractions: Fractions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split tokens into three contiguous parts.

    Args:
        tokens: shape (tokens,).
        fractions: the parts' shares, which sum to 1; a share of 0 gives an empty part.

    Returns:
        Train, valid and test, as views.
    """
    ends = [round(len(tokens) * share) for share in accumulate(fractions)]
    return tokens[: ends[0]], tokens[ends[0] : ends[1]], tokens[ends[1] :]


def shares_of(fractions: Fractions, has_valid: bool, has_test: bool) -> Fractions:
    """Return the shares of train, valid and test that are cut from one text.

    Args:
        fractions: what a user gave.
        has_valid: whether the validation part has a file of its own; its share goes to train.
        has_test: the same of the test part.

    Returns:
        The shares, which sum to 1.

    Raises:
        ValueError: they cannot split a text.
    """
    positive = fractions[0] > 0 and min(fractions) >= 0
    if not (positive and math.isclose(sum(fractions), 1.0, abs_tol=1e-6)):
        raise ValueError(
            f"The fractions {fractions} cannot split a text; give a positive share for train, "
            "shares of at least 0 for valid and test, and let them sum to 1."
        )
    valid = 0.0 if has_valid else fractions[1]
    test = 0.0 if has_test else fractions[2]
    return 1.0 - valid - test, valid, test
