"""Tokens of held-out text that no training text has: how many there are, and what they are.

They are in the vocabulary, so they have a probability, and figures count them like any others: at
what a token costs that was never seen.
"""

import numpy as np

from stochloc.data import Corpus, Tokenizer, count_tokens
from stochloc.data.sequence_corpora import SequenceCorpus

# Tokens that the remark names.
MOST_SHOWN = 10


def remark_on_unseen(corpus: Corpus | SequenceCorpus) -> str | None:
    """Return what a person should know of held-out tokens that no training text has.

    Args:
        corpus: What to train on.

    Returns:
        One sentence; None where there are no such tokens.
    """
    tokenizer = corpus.tokenizer
    train, valid, test = _counts(corpus)
    held_out = valid + test
    unseen = np.flatnonzero((train == 0) & (held_out > 0))
    if not len(unseen):
        return None
    shown = ", ".join(_shown(tokenizer, int(token)) for token in unseen[:MOST_SHOWN])
    more = ", ..." if len(unseen) > MOST_SHOWN else ""
    return (
        f"{held_out[unseen].sum():,} of {held_out.sum():,} held-out tokens are in no training text "
        f"({shown}{more}): they count like all others, at what was never seen."
    )


def _counts(corpus: Corpus | SequenceCorpus) -> list[np.ndarray]:
    size = corpus.tokenizer.vocabulary_size
    if isinstance(corpus, SequenceCorpus):
        return [part.counts(size) for part in corpus.parts.values()]
    return [count_tokens(part, size) for part in (corpus.train, corpus.valid, corpus.test)]


def _shown(tokenizer: Tokenizer, token: int) -> str:
    return repr(tokenizer.decode([token]))
