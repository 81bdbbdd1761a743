"""Tokenizers for texts that are split into training, validation and test parts.

What a tokenizer learns, it learns from training text alone. What it only has to know of, the
characters or the words that there are, it takes from every text that is given, so that held-out
text can be read: a symbol of held-out text alone then costs what was never seen costs.

A text is cut by its tokens, of which there are none before something is learned. So the training
share of its bytes is learned from, and if its end turns out to lie beyond the tokens of the
training part, what lies before that is learned from instead.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np

from stochloc.data.records.base import RecordSource
from stochloc.data.sequence_files import full_records, record_hash
from stochloc.data.texts import TextSource, naming
from stochloc.data.token_files import count_tokens
from stochloc.data.tokenizers.choices import Choice
from stochloc.data.tokenizers.named import choice_of, is_learned
from stochloc.data.tokenizers.protocol import Tokenizer
from stochloc.data.tokenizers.sequences import SequenceTokenizer

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
        every = self.sources if is_learned(name) else (*self.sources, *self.held_out)
        called = ", ".join(source.name for source in every)
        with naming(TextSource(called, {}, lambda: iter(()))):
            if is_learned(name) and self.share < 1:
                return self._learned(choice)
            return choice.for_texts([source.chunks() for source in every])

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

    def _training_bytes(self, source: TextSource, tokenizer: Tokenizer) -> int:
        """Return how many bytes of a text are in its training part."""
        tokens = self.encode(source, tokenizer)
        size = tokenizer.vocabulary_size
        counts = count_tokens(tokens[: round(len(tokens) * self.share)], size)
        lengths = [len(tokenizer.decode_bytes([token])) for token in range(size)]
        return int(counts @ np.array(lengths))


def tokenizer_for_sequences(
    name: str, sources: Sequence[RecordSource], share: float, held_out: Sequence[RecordSource]
) -> SequenceTokenizer:
    """Return the tokenizer of a name, with a boundary, for sequences that are split by hash.

    Args:
        name: as for `data.tokenizers.named.tokenizer_for`.
        sources: the sequences that are split.
        share: the share of training sequences, in (0, 1].
        held_out: sequences that are validation or test sequences as a whole.

    Returns:
        A tokenizer; that of a file need not be able to encode the texts.

    Raises:
        ValueError: the name is not known, no tokenizer can be made for the texts, there are none in
            a source, or one is empty.
    """
    texts = chain.from_iterable(map(_texts, sources))
    if is_learned(name):
        texts = filter(partial(_is_training, share), texts)
    else:
        texts = chain(texts, chain.from_iterable(map(_texts, held_out)))
    return SequenceTokenizer(choice_of(name).for_records(texts))


def _texts(source: RecordSource) -> Iterator[str]:
    return (record.text for record in full_records(source))


def _is_training(share: float, text: str) -> bool:
    return record_hash(text) / 2.0**64 < share


def _beginning(source: TextSource, end: int) -> Iterable[bytes]:
    """Yield the first bytes of a text without a character that is cut."""
    # Bytes of no character pass through unchanged, for those who read the text to refuse.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for chunk in source.chunks():
        yield decoder.decode(chunk[:end]).encode("utf-8", "surrogateescape")
        end -= len(chunk[:end])
        if not end:
            return
