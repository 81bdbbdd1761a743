"""N-gram models of tokens, baselines that use only a short context.

Counts are smoothed by Witten-Bell interpolation. With `c(h, w)` occurrences of token `w` after the
context `h`, `c(h)` their sum over `w` and `T(h)` the number of different tokens seen after `h`,

    P(w | h) = (c(h, w) + T(h) P(w | h')) / (c(h) + T(h)),

where `h'` is `h` without its oldest token. The recursion ends below the empty context at the
uniform distribution `1/V`, and a context that was never seen has the distribution of the next
shorter one. By induction every distribution sums to 1. At the start of a text the contexts are as
long as the text allows.

References:
    Witten and Bell (1991), The zero-frequency problem; Chen and Goodman (1999), An empirical study
    of smoothing techniques for language modeling, section 2.5.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int64, Integer

_BLOCK = 1 << 22
_MAX_BLOCKS = 64


class BitsPerToken(NamedTuple):
    """A mean over tokens and its standard error, in bits."""

    mean: float
    stderr: float


@dataclass(frozen=True, eq=False)
class _Counts:
    """Occurrences of packed n-grams of one order, and of the contexts that begin them.

    Attributes:
        grams: sorted codes of the n-grams seen, `context code · V + token`.
        occurrences: how often each was seen, `c(h, w)`.
        contexts: sorted codes of the contexts seen.
        totals: `c(h)`.
        types: `T(h)`.
    """

    grams: Int64[np.ndarray, " grams"]
    occurrences: Int64[np.ndarray, " grams"]
    contexts: Int64[np.ndarray, " contexts"]
    totals: Int64[np.ndarray, " contexts"]
    types: Int64[np.ndarray, " contexts"]


@final
@dataclass(frozen=True, eq=False)
class NgramModel:
    """The distribution of a token given the few before it, from counts; made by `fit`.

    Attributes:
        vocabulary_size: the number of tokens, **V**.
        counts: the n-grams seen, for each order from 1 up.
    """

    vocabulary_size: int
    counts: tuple[_Counts, ...]

    @classmethod
    def fit(
        cls, tokens: Integer[np.ndarray, " tokens"], order: int, vocabulary_size: int
    ) -> "NgramModel":
        """Return the model estimated from a text.

        Args:
            tokens: the text, shape (tokens,), ids from 0 to V - 1.
            order: tokens per n-gram: 1 ignores the context, 3 uses the two tokens before.
            vocabulary_size: the number of tokens, **V**.

        Returns:
            A model of this order.

        Raises:
            ValueError: the order is less than 1, `V ** order` exceeds 64-bit integers, the text is
                shorter than the order, or an id is outside the vocabulary.
        """
        if order < 1 or vocabulary_size**order >= 2**63:
            raise ValueError(
                f"N-grams of order {order} on {vocabulary_size} tokens cannot be counted; the "
                "order must be at least 1 and the vocabulary to its power less than 2**63."
            )
        if len(tokens) < order:
            raise ValueError(
                f"The text has {len(tokens)} tokens, fewer than the order {order}; give a longer "
                "text or a lower order."
            )
        _check_ids(tokens, vocabulary_size)
        orders = range(1, order + 1)
        return cls(vocabulary_size, tuple(_count(tokens, k, vocabulary_size) for k in orders))

    @property
    def order(self) -> int:
        """Tokens per n-gram."""
        return len(self.counts)

    def log_prob(
        self, tokens: Integer[np.ndarray, "*batch length"]
    ) -> Float64[np.ndarray, "*batch length"]:
        """Return the log-probability of each token given those before it.

        Args:
            tokens: one text, shape (length,), or independent windows, shape (batch, length).

        Returns:
            Nats, shape as given; the contexts of the first tokens are shorter.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        _check_ids(tokens, self.vocabulary_size)
        prob = np.full(tokens.shape, 1.0 / self.vocabulary_size)
        for order, counts in enumerate(self.counts[: tokens.shape[-1]], start=1):
            grams = _pack(tokens, order, self.vocabulary_size)
            longest = prob[..., order - 1 :]
            longest[...] = _interpolate(counts, grams, longest, self.vocabulary_size)
        return np.log(prob)

    def bits_per_token(self, tokens: Integer[np.ndarray, "*batch length"]) -> BitsPerToken:
        """Return the mean cost of a token and the standard error of that mean.

        Args:
            tokens: one text, shape (length,), or independent windows, shape (batch, length).

        Returns:
            Bits; the error is computed from the means of up to 64 contiguous blocks, since
            neighbouring tokens are not independent; it is infinite for a single token.

        Raises:
            ValueError: there are no tokens, or an id is outside the vocabulary.
        """
        if not tokens.size:
            raise ValueError("There are no tokens to score; give at least one.")
        bits = -self.log_prob(tokens).ravel() / math.log(2)
        blocks = np.array_split(bits, min(_MAX_BLOCKS, bits.size))
        means = np.array([block.mean() for block in blocks])
        spread = means.std(ddof=1) if len(means) > 1 else math.inf
        return BitsPerToken(float(bits.mean()), float(spread / math.sqrt(len(means))))


def _check_ids(tokens: Integer[np.ndarray, "*batch length"], vocabulary_size: int) -> None:
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < vocabulary_size):
        raise ValueError(
            f"The tokens lie in {tokens.min()} .. {tokens.max()}, outside a vocabulary of "
            f"{vocabulary_size}; give the vocabulary size of their tokenizer."
        )


def _pack(
    tokens: Integer[np.ndarray, "*batch length"], order: int, vocabulary_size: int
) -> Int64[np.ndarray, "*batch grams"]:
    num_grams = tokens.shape[-1] - order + 1
    codes = np.zeros((*tokens.shape[:-1], num_grams), dtype=np.int64)
    for place in range(order):
        codes *= vocabulary_size
        codes += tokens[..., place : place + num_grams]
    return codes


def _count(tokens: Integer[np.ndarray, " tokens"], order: int, vocabulary_size: int) -> _Counts:
    # Block by block, so that memory follows the number of different n-grams, not the text.
    overlap = order - 1
    tallies = [
        np.unique(
            _pack(tokens[start : start + _BLOCK + overlap], order, vocabulary_size),
            return_counts=True,
        )
        for start in range(0, len(tokens) - overlap, _BLOCK)
    ]
    grams, place = np.unique(np.concatenate([seen for seen, _ in tallies]), return_inverse=True)
    occurrences = np.bincount(place, np.concatenate([times for _, times in tallies])).astype(int)
    contexts, first, types = np.unique(
        grams // vocabulary_size, return_index=True, return_counts=True
    )
    return _Counts(grams, occurrences, contexts, np.add.reduceat(occurrences, first), types)


def _interpolate(
    counts: _Counts,
    grams: Int64[np.ndarray, "*batch grams"],
    shorter: Float64[np.ndarray, "*batch grams"],
    vocabulary_size: int,
) -> Float64[np.ndarray, "*batch grams"]:
    contexts = grams // vocabulary_size
    total = _look_up(counts.contexts, counts.totals, contexts)
    types = _look_up(counts.contexts, counts.types, contexts)
    seen = _look_up(counts.grams, counts.occurrences, grams)
    weight = np.maximum(total + types, 1)
    return np.where(total > 0, (seen + types * shorter) / weight, shorter)


def _look_up(
    keys: Int64[np.ndarray, " keys"],
    values: Int64[np.ndarray, " keys"],
    wanted: Int64[np.ndarray, "*batch grams"],
) -> Int64[np.ndarray, "*batch grams"]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
