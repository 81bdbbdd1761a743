"""Tokenizers for texts that are split into training, validation and test parts.

What a tokenizer learns, it learns from training text alone, and `words:train` takes its words from
there alone. What another only has to know of, the characters or the words that there are, it takes
from the texts that are split and, where held-out files of their own cannot be read with these, in
either Unicode form, from those too: a symbol of held-out text alone then costs what was never seen
costs.

With `words:train`, held-out sequences that have other words are left out (`data.sequence_files`).
A long text whose held-out parts have other words is refused: its windows are cut anywhere.

A text is cut by its tokens, of which there are none before something is learned. So the training
share of its bytes is learned from, and if its end turns out to lie beyond the tokens of the
training part, what lies before that is learned from instead.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from stochloc.data.records.base import RecordSource
from stochloc.data.sequence_files import encode_records, full_records, is_below
from stochloc.data.texts import TextSource, UnknownCharactersError, naming
from stochloc.data.token_files import count_tokens
from stochloc.data.tokenizers.choices import Choice, TrainingWords
from stochloc.data.tokenizers.named import choice_of, is_learned
from stochloc.data.tokenizers.protocol import Tokenizer
from stochloc.data.tokenizers.sequences import SequenceTokenizer
from stochloc.data.tokenizers.unknown import MOST_SHOWN

Encode = Callable[[TextSource, Tokenizer], np.ndarray]

# How much less is learned from when it was too much, as a share of the text.
_LESS = 1e-4


@dataclass(frozen=True)
class Divided:
    """Texts of which each is split by itself, and others that are held out as a whole.

    Attributes:
        sources: the texts that are split.
        share: the share of training tokens of each, in (0, 1].
        held_out: texts that are validation or test text as a whole.
        encode: returns the tokens of a text.
    """

    sources: Sequence[TextSource]
    share: float
    held_out: Sequence[TextSource]
    encode: Encode

    def tokenizer(self, name: str) -> Tokenizer:
        """Return the tokenizer of a name for these texts.

        Args:
            name: as for `data.tokenizers.named.tokenizer_for`.

        Returns:
            A tokenizer; that of a file need not be able to encode the texts.

        Raises:
            ValueError: the name is not known, or no tokenizer can be made for the texts.
        """
        choice = choice_of(name)
        if isinstance(choice, TrainingWords):
            return self._of_training_words(choice)
        if is_learned(name) and self.share < 1:
            with _naming(self.sources):
                return self._learned(choice)
        tokenizer = _made(choice, self.sources)
        try:
            for text in self.held_out:
                self.encode(text, tokenizer)
        except UnknownCharactersError:
            return _made(choice, (*self.sources, *self.held_out))
        return tokenizer

    def _learned(self, choice: Choice) -> Tokenizer:
        sizes = [sum(map(len, source.chunks())) for source in self.sources]
        ends = [int(size * self.share) for size in sizes]
        while True:
            tokenizer = choice.for_texts(list(map(_beginning, self.sources, ends)))
            cuts = [self._training_bytes(source, tokenizer) for source in self.sources]
            if all(end <= cut for end, cut in zip(ends, cuts, strict=True)):
                return tokenizer
            # Other tokens cut the text elsewhere, so where they do is looked at again.
            less = [cut - 1 - int(_LESS * size) for cut, size in zip(cuts, sizes, strict=True)]
            ends = [max(0, min(pair)) for pair in zip(ends, less, strict=True)]

    def _of_training_words(self, choice: TrainingWords) -> Tokenizer:
        """Return the tokenizer of all words, of which the training parts must have every one."""
        tokenizer = _made(choice, self.sources)
        size = tokenizer.vocabulary_size
        every = [self.encode(source, tokenizer) for source in self.sources]
        seen = [count_tokens(part[: round(len(part) * self.share)], size) for part in every]
        unseen = np.flatnonzero(np.sum(seen, 0) == 0)
        if len(unseen):
            shown = ", ".join(repr(tokenizer.decode([int(token)])) for token in unseen[:MOST_SHOWN])
            more = ", ..." if len(unseen) > MOST_SHOWN else ""
            raise ValueError(
                "The vocabulary words:train lacks words of held-out text that no training text has "
                f"({len(unseen):,} in all: {shown}{more}): take words, which has every word, or "
                "--sequences, where held-out lines with such words are left out."
            )
        return tokenizer

    def _training_bytes(self, source: TextSource, tokenizer: Tokenizer) -> int:
        """Return how many bytes of a text are in its training part."""
        tokens = self.encode(source, tokenizer)
        size = tokenizer.vocabulary_size
        counts = count_tokens(tokens[: round(len(tokens) * self.share)], size)
        lengths = [len(tokenizer.decode_bytes([token])) for token in range(size)]
        return int(counts @ np.array(lengths))


def tokenizer_for_sequences(
    name: str,
    sources: Sequence[RecordSource],
    share: float,
    held_out: Sequence[RecordSource],
    cache_dir: str | Path | None = None,
) -> SequenceTokenizer:
    """Return the tokenizer of a name, with a boundary, for sequences that are split by hash.

    Args:
        name: as for `data.tokenizers.named.tokenizer_for`.
        sources: the sequences that are split.
        share: the share of training sequences, in (0, 1].
        held_out: sequences that are validation or test sequences as a whole.
        cache_dir: the cache folder of what is encoded.

    Returns:
        A tokenizer; that of a file need not be able to encode the texts.

    Raises:
        ValueError: the name is not known, no tokenizer can be made for the texts, there are none in
            a source, or one is empty.
    """
    choice, texts = choice_of(name), chain.from_iterable(map(_texts, sources))
    if is_learned(name):
        return SequenceTokenizer(choice.for_records(filter(partial(is_below, share=share), texts)))
    tokenizer = SequenceTokenizer(choice.for_records(texts))
    try:
        for source in held_out:
            encode_records(source, tokenizer, cache_dir)
    except UnknownCharactersError:
        texts = chain.from_iterable(map(_texts, (*sources, *held_out)))
        return SequenceTokenizer(choice.for_records(texts))
    return tokenizer


def _made(choice: Choice, sources: Sequence[TextSource]) -> Tokenizer:
    with _naming(sources):
        return choice.for_texts([source.chunks() for source in sources])


def _naming(sources: Sequence[TextSource]) -> AbstractContextManager[None]:
    """Name texts in the message of an error about what they hold."""
    called = ", ".join(source.name for source in sources)
    return naming(TextSource(called, {}, lambda: iter(())))


def _texts(source: RecordSource) -> Iterator[str]:
    return (record.text for record in full_records(source))


def _beginning(source: TextSource, end: int) -> Iterable[bytes]:
    """Yield the first bytes of a text without a character that is cut."""
    # Bytes of no character pass through unchanged, for those who read the text to refuse.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for chunk in source.chunks():
        yield decoder.decode(chunk[:end]).encode("utf-8", "surrogateescape")
        end -= len(chunk[:end])
        if not end:
            return
