"""The chain rule along any order of the tokens, and how much the orders disagree.

For every order σ of the tokens, `-log P(x) = -Σ_k log P(x_σ(k) | x_σ(1), ..., x_σ(k-1))`. The
conditionals of a learned denoiser are answers to separate questions, so each order has a
distribution `P_σ` of its own: that of the walk which decides one token after another in the order.
Its `-log P_σ(x)` is known exactly, and costs a call for each token.

A two-sided denoiser, which gives `P(x_i | left_<i, right_>i)` for all i, answers several of these
questions at once. While an order runs to the right, reveal the tokens of the run in the left state
and only those before the run in the right one: each token of the run then sees all that come before
it in the order, and no other. A run to the left is the mirror image. Left to right or right to left
is one run and one call; a random order takes a call for each of its runs, of 2.4 tokens on average.

If there were one joint distribution behind all conditionals, the orders would agree about every
text. The exact denoiser's do. For a learned one, the differences of `-log P_σ(x)` between orders
say, in nats, how far its conditionals are from that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Denoiser
from stochloc.core.denoisers.two_sided import Between, between
from stochloc.core.likelihood import Estimate, given_state
from stochloc.core.numerics import in_double
from stochloc.core.paths.orders import random_ranks, rank_free
from stochloc.core.streams import Randomness

Tokens = Int[Tensor, "batch length"]


def left_to_right(denoiser: Denoiser, tokens: Tokens, known: Tokens | None = None) -> Estimate:
    """Return `-Σ_i log Q(x_i | x_<i)`, the exact `-log P` of the walk from left to right.

    Args:
        denoiser: Gives the conditionals.
        tokens: The sequences to score, in `[0, V)`.
        known: Tokens given in advance, `-1` elsewhere: the result is `-log P(x | known)`, in which
            every token is conditioned on all of them, on its right too.

    Returns:
        The exact value for every sequence, the `bound` of `Autoregressive` with as many steps as
        tokens; ∞ for one that cannot be drawn. One call of a two-sided denoiser, and one for each
        free token of any other.

    Raises:
        ValueError: A token is outside of the vocabulary, or `known` contradicts `tokens`.
    """
    given = given_state(denoiser.codebook, tokens, known)
    places = torch.arange(tokens.shape[-1], device=tokens.device)
    return _in_order(denoiser, given, tokens, places.expand(tokens.shape))


def right_to_left(denoiser: Denoiser, tokens: Tokens, known: Tokens | None = None) -> Estimate:
    """Return `-Σ_i log Q(x_i | x_>i)`, the exact `-log P` of the walk from right to left.

    Args:
        denoiser: Gives the conditionals.
        tokens: The sequences to score, in `[0, V)`.
        known: Tokens given in advance, as for `left_to_right`.

    Returns:
        The exact value for every sequence, at the cost of `left_to_right`.

    Raises:
        ValueError: A token is outside of the vocabulary, or `known` contradicts `tokens`.
    """
    given = given_state(denoiser.codebook, tokens, known)
    places = torch.arange(tokens.shape[-1], device=tokens.device)
    return _in_order(denoiser, given, tokens, places.flip(0).expand(tokens.shape))


def in_order(
    denoiser: Denoiser, tokens: Tokens, order: Tokens, known: Tokens | None = None
) -> Estimate:
    """Return the exact `-log P` of the walk that decides the tokens one by one in an order.

    Args:
        denoiser: Gives the conditionals.
        tokens: The sequences to score, in `[0, V)`.
        order: The places of every sequence, first to last: a permutation of `0..L-1`. Known ones
            are passed over.
        known: Tokens given in advance, `-1` elsewhere: the result is `-log P(x | known)`.

    Returns:
        The exact value for every sequence. A two-sided denoiser is called once for each run of an
        order in one direction, any other once for each free token; as often as the sequence that
        needs most.

    Raises:
        ValueError: A token is outside of the vocabulary, or `known` contradicts `tokens`.
    """
    return _in_order(denoiser, given_state(denoiser.codebook, tokens, known), tokens, order)


@torch.no_grad()
def _in_order(denoiser: Denoiser, given: State, tokens: Tokens, order: Tokens) -> Estimate:
    free = ~given.is_known
    ranks, num_free = rank_free(order.argsort(-1), free), free.sum(-1, keepdim=True)
    runs = _Runs.of(ranks, between(denoiser), denoiser)
    nats, calls, n = torch.zeros_like(in_double(given.snr)), 0, torch.zeros_like(num_free)
    while bool((n < num_free).any()):
        end, rises = runs.after(n)
        before, now = free & (ranks < n), free & (ranks >= n) & (ranks < end)
        left = given.reveal(tokens, before | (now & rises))
        right = given.reveal(tokens, before | (now & ~rises))
        posterior = runs.sides(left, right)
        nats = torch.where(now.to(nats.device), -in_double(posterior.log_prob(tokens)), nats)
        calls, n = calls + posterior.calls, torch.minimum(end, num_free)
    return Estimate(nats, calls, is_exact=True)


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs of an order of which one call can answer.

    Attributes:
        sides: Answers, given what is known on the left and on the right of each token of a run.
        ends: Where the run that begins with each token of the order ends, `(B, L)`.
        rises: Whether it runs to the right, `(B, L)`.
    """

    sides: Between
    ends: Int[Tensor, "batch length"]
    rises: Bool[Tensor, "batch length"]

    @classmethod
    def of(cls, ranks: Tokens, sides: Between | None, denoiser: Denoiser) -> "_Runs":
        """Return the longest runs if the denoiser is two-sided, otherwise those of one token."""
        length = ranks.shape[-1]
        number = torch.arange(length, device=ranks.device)
        if sides is None:
            ends = (number + 1).expand(ranks.shape)
            # The only token of a run is revealed on its own left, and the right side is asked.
            return cls(lambda _, right: denoiser(right), ends, torch.ones_like(ends).bool())
        places = ranks.argsort(-1)
        # A last run of one token may go either way.
        rises = places.diff(append=places[:, -1:] + 1) > 0
        turns = rises[:, :-2] != rises[:, 1:-1]
        ends = torch.full_like(ranks, length)
        ends[:, :-2] = torch.where(turns, number[:-2] + 2, length)
        return cls(sides, ends.flip(-1).cummin(-1).values.flip(-1), rises)

    def after(self, n: Int[Tensor, "batch 1"]) -> tuple[Tensor, Tensor]:
        """Return end and direction of the run that begins with token number n of each order."""
        # A sequence that has come to its end has no run, and whatever is said of it is not read.
        number = n.clamp(max=self.ends.shape[-1] - 1)
        return self.ends.gather(-1, number), self.rises.gather(-1, number)


@dataclass(frozen=True)
class ChainDeviation:
    """What the chain rule gives along several orders, and how much they differ.

    Attributes:
        along: `-log P` of the same sequences along every order, all exact: left to right, right to
            left, then random orders.
    """

    along: tuple[Estimate, ...]

    @property
    def values(self) -> Float[Tensor, " batch"]:
        """The mean absolute difference of `-log P` between two of the orders, sequence by sequence.

        Nats; 0 if and only if all orders agree.
        """
        nats = torch.stack([estimate.values for estimate in self.along])
        num = len(nats)
        return (nats[:, None] - nats).abs().sum((0, 1)) / (num * (num - 1))

    @property
    def mean(self) -> float:
        """Average over the sequences, in nats per sequence."""
        return float(self.values.mean())

    @property
    def stderr(self) -> float:
        """Standard error of `mean`, from the spread of the sequences; NaN for a single one."""
        values = self.values
        return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan

    @property
    def denoiser_calls(self) -> int:
        """How often the denoiser was asked about each sequence, for all orders together."""
        return sum(estimate.denoiser_calls for estimate in self.along)

    @classmethod
    def join(cls, parts: Sequence["ChainDeviation"]) -> "ChainDeviation":
        """Return one result for the sequences of several batches.

        Args:
            parts: Results with equally many orders, for sequences of equal length.

        Returns:
            Their sequences together.
        """
        along = zip(*(part.along for part in parts), strict=True)
        return cls(tuple(Estimate.join(estimates) for estimates in along))


def chain_deviation(
    denoiser: Denoiser,
    tokens: Tokens,
    num_orders: int,
    generator: Randomness,
    known: Tokens | None = None,
) -> ChainDeviation:
    """Return the exact `-log P` of sequences along several orders of their tokens.

    Args:
        denoiser: Gives the conditionals.
        tokens: The sequences to score, in `[0, V)`.
        num_orders: Random orders beside left to right and right to left, at least 0; drawn anew
            for every sequence.
        generator: Source of the orders.
        known: Tokens given in advance, `-1` elsewhere.

    Returns:
        Values along every order. A sequence that cannot be drawn along two of them has no
        deviation: the difference of two values of ∞ is NaN. A two-sided denoiser makes two calls,
        and about `0.4 L` more for each random order; any other one for each free token and order.

    Raises:
        ValueError: `num_orders` is below 0 or not a whole number, a token is outside of the
            vocabulary, or `known` contradicts `tokens`.
    """
    if num_orders < 0 or isinstance(num_orders, float):
        raise ValueError(
            f"The number of random orders is a whole number of at least 0, not {num_orders}."
        )
    along = [side(denoiser, tokens, known) for side in (left_to_right, right_to_left)]
    every = torch.ones_like(tokens, dtype=torch.bool)
    for _ in range(num_orders):
        order = random_ranks(every, generator)
        along.append(in_order(denoiser, tokens, order, known))
    return ChainDeviation(tuple(along))
