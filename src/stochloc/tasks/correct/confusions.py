"""What errors look like, learned from texts of which both is known: as read, and right.

A right text x is read as s piece by piece, `P(s|x) = Π_k P(s_k|x_k)`. Most pieces are a token that
is kept; others are one that was replaced, lost or added, two that were swapped, or several errors
side by side, as where `in` was read as `m` (Brill and Moore 2000). Every pair of texts is aligned
by the fewest edits. If piece x occurs n(x) times and is read as s n(s,x) times,

    P(s|x) = (n(s,x) + a ρ(s|x)) / (n(x) + a)

where ρ is the rate of this kind of error, all tokens taken together: a token is like all others
until it was seen more often than a times. Longer pieces have ρ = 0.

One token in place of another is a *channel*: shown to a denoiser as the soft mask

    z = Σ_v log P(s|v) e_v,

exact with simplex codes, every token is seen as all that it may be, those around the one asked
about included. That takes evidence of finite SNR: a mask and a token are nothing and all.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import chain, groupby
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from stochloc.core import UNKNOWN
from stochloc.tasks.correct.errors import LONGEST_PIECE, Text

# a; 1, 10 and 100 correct newspapers alike (docs/results/correction.md).
PRIOR_COUNT = 10.0
# Pieces seen once are left out.
FEWEST_SEEN = 2

Pair = tuple[Sequence[int], Sequence[int]]
Piece = tuple[Text, Text]


class Rates(NamedTuple):
    """Errors of each kind, per token of the right text."""

    replaced: float
    lost: float
    added: float
    swapped: float


@dataclass(frozen=True)
class Confusions:
    """Errors as they were seen: a channel of single tokens, and what edits cost.

    Attributes:
        num_symbols: Number of symbols that can be read, V, at least 2.
        num_given: How many tokens that are only ever given come after these; none is ever read.
        read_as: By the piece that was read, how often each piece was read so.
        occurrences: Of the pieces in the right texts; of the empty one, places for it.
        rates: Errors of each kind.
    """

    num_symbols: int
    num_given: int
    read_as: Mapping[Text, Mapping[Text, int]]
    occurrences: Mapping[Text, int]
    rates: Rates

    @property
    def rate(self) -> float:
        """Share of the tokens that were read wrong, of the right text's."""
        return min(1.0, sum(self.rates))

    @property
    def fingerprint(self) -> str:
        """What tells these errors from others: a digest of all counts."""
        counts = [(read, sorted(right.items())) for read, right in sorted(self.read_as.items())]
        return sha256(repr((counts, sorted(self.occurrences.items()))).encode()).hexdigest()

    def evidence(
        self, read: Int[Tensor, "*batch length"], snr: Float[Tensor, "*batch length"]
    ) -> Float[Tensor, "*batch length vocabulary"]:
        """Return `log P(s|v)` of every token v, up to a constant; exact for the rates above.

        Args:
            read: The symbols s.
            snr: Where it is 0 nothing is known; elsewhere the examples say what is.

        Returns:
            Nats; those of tokens that were not seen to be read as s are 0 on average.
        """
        symbols, which = read.unique(return_inverse=True)
        rows = torch.stack([self._row(symbol) for symbol in symbols.tolist()]).to(snr)
        return rows[which] * (snr != 0)[..., None]

    def cost(self, read: Text, right: Text, snr: float) -> float:
        """Return what an edit costs; exact for the rates above, if no other piece gives the text.

        Args:
            read: The piece that was read.
            right: Another one.
            snr: 0 where nothing is known, which costs nothing.

        Returns:
            Nats, below 0 where an error is likelier than none.
        """
        if snr == 0:
            return 0.0
        return math.fsum(self._log_prob((s,), (s,)) for s in read) - self._log_prob(read, right)

    def likely(self, read: Text) -> Mapping[Text, float]:
        """Return the other pieces that were read as this one, of several tokens on either side."""
        return {
            right: self.cost(read, right, math.inf)
            for right, seen in self.read_as.get(read, {}).items()
            if len(read) + len(right) > 2 and seen >= FEWEST_SEEN
        }

    def _row(self, symbol: int) -> Float[Tensor, " vocabulary"]:
        row, average = self._unseen.clone(), self._unseen.mean()
        seen = (right for right in self.read_as.get((symbol,), {}) if len(right) == 1)
        for right in {(symbol,), *seen}:
            row[right] = self._log_prob((symbol,), right)
        return torch.cat([row - average, row.new_zeros(self.num_given)])

    @cached_property
    def _unseen(self) -> Float[Tensor, " symbols"]:
        """`log P(s|v)` of every token v, for an s as which it was not seen to be read."""
        num = torch.tensor([self.occurrences.get((v,), 0) for v in range(self.num_symbols)])
        prior = PRIOR_COUNT * self.rates.replaced / (self.num_symbols - 1)
        return math.log(prior) - (num.double() + PRIOR_COUNT).log()

    def _log_prob(self, read: Text, right: Text) -> float:
        """Return `log P(s|x)`, -∞ of what is taken to be impossible."""
        seen = self.read_as.get(read, {}).get(right, 0)
        weight = seen + PRIOR_COUNT * self._prior(read, right)
        num = self.occurrences.get(right, 0) + PRIOR_COUNT
        return math.log(weight / num) if weight else -math.inf

    def _prior(self, read: Text, right: Text) -> float:
        """Return ρ(s|x)."""
        rates, num_others = self.rates, self.num_symbols - 1
        if read == right:
            return 1 - rates.replaced - rates.lost
        if _kind(read, right) == "swapped":
            return rates.swapped
        choices = {
            (1, 1): rates.replaced / num_others,
            (0, 1): rates.lost,
            (1, 0): rates.added / self.num_symbols,
        }
        return choices.get((len(read), len(right)), 0.0)


def learn_confusions(pairs: Iterable[Pair], num_symbols: int, num_given: int = 0) -> Confusions:
    """Learn what errors look like.

    Args:
        pairs: Tokens of a text as it was read, and of the right one; -1 for a part that is no
            token, of which nothing is learned.
        num_symbols: Number of symbols that can be read, V, at least 2.
        num_given: How many tokens that are only ever given come after these.

    Returns:
        The errors, counted.

    Raises:
        ValueError: The right texts hold no token.
    """
    read_as = defaultdict[Text, Counter[Text]](Counter)
    occurrences, kinds = Counter[Text](), Counter[str | None]()
    for read, right in pairs:
        for size in range(1, LONGEST_PIECE + 1):
            occurrences.update(zip(*(right[at:] for at in range(size)), strict=False))
        occurrences[()] += len(right) + 1
        for piece in _pieces(read, right):
            if UNKNOWN not in chain(*piece):
                kinds[_kind(*piece)] += 1
                read_as[piece[0]][piece[1]] += 1
    num_tokens = sum(occurrences[v,] for v in range(num_symbols))
    if not num_tokens:
        raise ValueError("The examples of errors have no right text; nothing is learned from them.")
    # Half an error more: what was not seen is rare, not impossible.
    rates = Rates(*((kinds[kind] + 0.5) / (num_tokens + 1) for kind in Rates._fields))
    known = {right for by_right in read_as.values() for right in by_right}
    singles = ((v,) for v in range(num_symbols))
    kept = {piece: occurrences[piece] for piece in {(), *singles, *known}}
    return Confusions(num_symbols, num_given, dict(read_as), kept, rates)


def _kind(read: Text, right: Text) -> str | None:
    """Return the name of a single error in `Rates`; None of what is kept and of several errors."""
    if read == right:
        return None
    if len(read) == 2 and read == right[::-1]:
        return "swapped"
    return {(1, 1): "replaced", (0, 1): "lost", (1, 0): "added"}.get((len(read), len(right)))


def _pieces(read: Sequence[int], right: Sequence[int]) -> Iterator[Piece]:
    """Yield every token that was kept, every single error, and errors side by side as one piece."""
    edits = [
        (tuple(read[e.src_start : e.src_end]), tuple(right[e.dest_start : e.dest_end]))
        for e in Levenshtein.opcodes(read, right)
    ]
    for is_kept, group in groupby(_with_swaps(edits), lambda edit: edit[0] == edit[1]):
        parts = list(group)
        for part in parts:
            yield from [part] if _kind(*part) == "swapped" else _one_by_one(*part)
        whole = _joined(parts)
        # An edit leaves at most one token more than it found.
        is_short = len(whole[1]) - 1 <= len(whole[0]) <= LONGEST_PIECE
        if not is_kept and is_short and _kind(*whole) is None:
            yield whole


def _with_swaps(edits: Sequence[Piece]) -> Iterator[Piece]:
    """Yield edits, those that lose a token and add it beyond its neighbour as one."""
    at = 0
    while at < len(edits):
        three = _joined(edits[at : at + 3])
        is_swap = _kind(*three) == "swapped"
        yield three if is_swap else edits[at]
        at += 3 if is_swap else 1


def _one_by_one(read: Text, right: Text) -> Iterator[Piece]:
    """Yield one token of each at a time, and none of the side that has no more."""
    for at in range(max(len(read), len(right))):
        yield read[at : at + 1], right[at : at + 1]


def _joined(pieces: Iterable[Piece]) -> Piece:
    """Return pieces that follow each other as one."""
    read, right = zip(*pieces, strict=True)
    return tuple(chain(*read)), tuple(chain(*right))
