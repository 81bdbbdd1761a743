"""Sequences: texts with a beginning and an end, each of its own length.

The tokens of all of them lie in one flat array, often memory-mapped; a sequence is a place in it
and a length. As the model sees it a sequence of n tokens of text is a row,

    [label?] boundary x_1 ... x_n boundary,

with the token of its class in front where there are classes (`data.labels`), and rows of different
lengths stand in one tensor with `ABSENT` after the end of the shorter ones.
Knows nothing of files or of text.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer, UInt64
from torch import Tensor

from stochloc.data.token_files import COUNT_TOKENS, count_tokens

# Where a row of a training batch has no token. No walk, bound or sample ever sees it.
ABSENT = -1
# The boundaries of a row.
NUM_BOUNDARIES = 2


@dataclass(frozen=True)
class Rows:
    """Some sequences or windows of equal length, and their numbers among all.

    Attributes:
        numbers: of each row, among the sequences or windows they were taken from.
        tokens: the rows, boundaries included.
    """

    numbers: Int64[Tensor, " rows"]
    tokens: Int64[Tensor, "rows length"]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of tokens.

    Attributes:
        flat: tokens of text, often memory-mapped; between the sequences may lie others.
        starts: where in `flat` each sequence begins.
        lengths: tokens of text of each, at least 1.
        hashes: of the text of each: equal texts have equal hashes.
        boundary: the token before and after each.
        labels: the token of the class of each, in front of its first boundary; None where there are
            no classes.
    """

    flat: Integer[np.ndarray, " tokens"]
    starts: Int64[np.ndarray, " sequences"]
    lengths: Int64[np.ndarray, " sequences"]
    hashes: UInt64[np.ndarray, " sequences"]
    boundary: int
    labels: Int64[np.ndarray, " sequences"] | None = None

    @classmethod
    def split_at(
        cls,
        flat: Integer[np.ndarray, " tokens"],
        boundary: int,
        hashes: UInt64[np.ndarray, " sequences"],
    ) -> "Sequences":
        """Return the sequences of an array in which each is followed by a boundary.

        Args:
            flat: tokens.
            boundary: the token after each sequence.
            hashes: of the text of each.

        Returns:
            The sequences in their order.
        """
        ends = [
            begin + np.flatnonzero(np.asarray(flat[begin : begin + COUNT_TOKENS]) == boundary)
            for begin in range(0, len(flat), COUNT_TOKENS)
        ]
        after = np.concatenate([[-1], *ends]).astype(np.int64)
        assert len(after) == len(hashes) + 1, (len(after), len(hashes))
        return cls(flat, after[:-1] + 1, np.diff(after) - 1, hashes, boundary)

    @classmethod
    def joined(cls, parts: Iterable["Sequences"]) -> "Sequences":
        """Return the sequences of several parts, one after the other.

        Args:
            parts: At least one, all with labels or none; their flat arrays may be different ones.

        Returns:
            All of them. Flat arrays that are not one and the same are copied into memory.
        """
        every = list(parts)
        first = every[0]
        flats = {id(part.flat): part.flat for part in every}
        begins = dict(zip(flats, accumulate(map(len, flats.values()), initial=0), strict=False))
        return cls(
            first.flat if len(flats) == 1 else np.concatenate(list(flats.values())),
            np.concatenate([part.starts + begins[id(part.flat)] for part in every]),
            np.concatenate([part.lengths for part in every]),
            np.concatenate([part.hashes for part in every]),
            first.boundary,
            _all_or_none([part.labels for part in every]),
        )

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def num_given(self) -> int:
        """Tokens of every row that are not text: the boundaries, and a label."""
        return NUM_BOUNDARIES + (self.labels is not None)

    @cached_property
    def mean_length(self) -> float:
        """Tokens of text of a sequence, on average."""
        return float(self.lengths.mean())

    @property
    def longest(self) -> int:
        """The greatest number of tokens of text; 0 where there are no sequences."""
        return int(self.lengths.max(initial=0))

    def num_longer(self, longest: int) -> int:
        """Return how many sequences have more tokens of text than this."""
        return int((self.lengths > longest).sum())

    def taken(
        self, chosen: Bool[np.ndarray, " sequences"] | Int64[np.ndarray, " chosen"]
    ) -> "Sequences":
        """Return some of the sequences, in the order in which they are chosen."""
        starts, lengths, hashes = self.starts[chosen], self.lengths[chosen], self.hashes[chosen]
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, starts=starts, lengths=lengths, hashes=hashes, labels=labels)

    def labelled(self, label: int) -> "Sequences":
        """Return the same sequences, all of the class with this token."""
        return replace(self, labels=np.full(len(self), label, dtype=np.int64))

    def cut(self, longest: int) -> "Sequences":
        """Return the sequences with what is beyond a number of tokens of text left out."""
        return replace(self, lengths=np.minimum(self.lengths, longest))

    def rows(self, chosen: Int64[np.ndarray, " rows"]) -> Int64[Tensor, "rows length"]:
        """Return sequences as the model sees them.

        Args:
            chosen: their numbers, at least one.

        Returns:
            Shape (rows, n + `num_given`) for the longest of them; `ABSENT` after the end of the
            others.
        """
        lengths = self.lengths[chosen][:, None]
        places = np.arange(int(lengths.max()))
        inside = places < lengths
        text = self.flat[np.where(inside, self.starts[chosen][:, None] + places, 0)]
        # The small type of stored tokens has no number for `ABSENT`.
        text = text.astype(np.int64)
        rows = np.full((len(chosen), len(places) + NUM_BOUNDARIES), ABSENT, dtype=np.int64)
        rows[:, 0] = self.boundary
        rows[:, 1:-1] = np.where(inside, text, ABSENT)
        np.put_along_axis(rows, lengths + 1, self.boundary, axis=1)
        if self.labels is not None:
            rows = np.concatenate([self.labels[chosen][:, None], rows], axis=1)
        return torch.from_numpy(rows)

    def spaced(self, num: int) -> "Sequences":
        """Return at most this many of the sequences, evenly spaced over all of them."""
        chosen = min(num, len(self))
        return self.taken(np.arange(chosen) * len(self) // max(1, chosen))

    def by_length(self) -> Iterator[Rows]:
        """Yield all sequences, those of equal length together, the shortest first."""
        order = np.argsort(self.lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(self.lengths[order])) + 1
        for numbers in np.split(order, cuts) if len(order) else []:
            yield Rows(torch.from_numpy(numbers), self.rows(numbers))

    def counts(self, vocabulary_size: int) -> Int64[np.ndarray, " vocabulary"]:
        """Return how often each token occurs in the texts of the sequences.

        Args:
            vocabulary_size: number of different tokens, **V**.

        Returns:
            Counts, shape (vocabulary_size,).
        """
        counts = np.zeros(vocabulary_size, dtype=np.int64)
        for piece in self._pieces():
            counts += count_tokens(piece, vocabulary_size)
        return counts

    def checksum(self) -> str:
        """Return the SHA-256 of lengths, labels and tokens of the sequences, in their order."""
        digest = sha256(np.ascontiguousarray(self.lengths).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels).data)
        for piece in self._pieces():
            digest.update(np.ascontiguousarray(piece).data)
        return digest.hexdigest()

    def _pieces(self) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield the tokens of text, in memory that does not grow with the number of sequences."""
        ends = np.cumsum(self.lengths)
        parts = np.searchsorted(ends, np.arange(COUNT_TOKENS, ends.max(initial=0), COUNT_TOKENS))
        for chosen in np.split(np.arange(len(self)), np.unique(parts)):
            lengths = self.lengths[chosen]
            before = np.cumsum(lengths) - lengths
            places = np.repeat(self.starts[chosen] - before, lengths) + np.arange(lengths.sum())
            yield self.flat[places]


def _all_or_none(
    labels: Sequence[Int64[np.ndarray, "_"] | None],
) -> Int64[np.ndarray, " sequences"] | None:
    told = [part for part in labels if part is not None]
    assert len(told) in (0, len(labels)), "some parts have labels and others none"
    return np.concatenate(told) if told else None
