"""What a text costs after another: `-log P(continuation | context)`, exact or bounded.

From left to right a two-sided model gives the conditionals of all tokens in one call, and those of
the continuation add up to the exact cost. Any other walk starts with the context known and bounds
it, as the average of several draws with a standard error.

A text longer than the model's window is cut into windows whose scored tokens are disjoint. Each
but the first begins with the tokens before its own as context, so that every token is scored once,
with at least that much text to its left, or all there is,

    |   scored 1   |
           |context| scored 2 |
                      |context| scored 3 |

and the sum is the cost of the whole under a model that remembers a window. Without left context it
is what `tasks.score` gives.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core import UNKNOWN, Denoiser, between, start
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import Walk
from stochloc.training.seeds import seeded_streams

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A window, the first tokens of which are given.

    Attributes:
        tokens: At most as many as the model's window has.
        given: How many of the first are context and not scored.
        place: Where it begins in its text, which names its random streams.
    """

    tokens: Tokens
    given: int
    place: int = 0


@dataclass(frozen=True)
class Cost:
    """What a continuation costs.

    Attributes:
        nats: `-log P` given the context, exact or the average of bounds.
        stderr: Its standard error over the draws; 0 where nothing is drawn, NaN for one draw.
    """

    nats: float
    stderr: float


def pieces(context: Tokens, scored: Tokens, window: int, left_context: int) -> list[Piece]:
    """Return the windows in which a text is scored after another.

    Args:
        context: The tokens before; as many of the last as there is room for are shown.
        scored: The tokens to score.
        window: The most tokens of a window, at least 1.
        left_context: Tokens shown at the beginning of every window but the first, in `[0, window)`.

    Returns:
        Windows whose scored tokens are those to score, in order; none for an empty text.
    """
    assert 0 <= left_context < window
    if not scored:
        return []
    first = min(len(scored), window - min(left_context, len(context)))
    shown = min(len(context), window - first)
    whole = context[len(context) - shown :] + scored
    place = shown + first
    cut = [Piece(whole[:place], shown)]
    while place < len(whole):
        end = min(place + window - left_context, len(whole))
        begin = place - left_context
        cut.append(Piece(whole[begin:end], left_context, begin))
        place = end
    return cut


def costs(
    run: Run,
    walk: Walk,
    texts: Sequence[Sequence[Piece]],
    num_draws: int,
    seed: int,
    label: str | None = None,
) -> list[Cost]:
    """Return what texts cost, each the sum over its windows.

    Args:
        run: The model.
        walk: How to walk; from left to right nothing is drawn.
        texts: The windows of every text.
        num_draws: Walks that are averaged.
        seed: Seed of all randomness; the same text has the same draws beside any others.
        label: Class of the texts; None leaves it open.

    Returns:
        The costs in order. Different windows of equal length are taken together; a two-sided model
        is called once for each batch of them from left to right.
    """
    different = dict.fromkeys(piece for text in texts for piece in text)
    found: dict[Piece, Float[Tensor, " draws"]] = {}
    for same in _by_length(different):
        jobs = [(piece, draw) for piece in same for draw in range(num_draws)]
        length = len(same[0].tokens)
        size = rows_at_once(length, run.tokenizer.vocabulary_size)
        nats: dict[Piece, list[Tensor]] = defaultdict(list)
        for begin in range(0, len(jobs), size):
            chosen = jobs[begin : begin + size]
            rows = torch.tensor([piece.tokens for piece, _ in chosen], device=run.device)
            given = _given([piece for piece, _ in chosen], rows)
            # As `tasks.score` names them.
            names = ((draw, piece.place, *piece.tokens) for piece, draw in chosen)
            streams = seeded_streams(run.device, seed, names)
            known = rows.masked_fill(~given, UNKNOWN)
            estimate = walk.bound(run.denoiser_for(length, label), rows, streams, known)
            scored = estimate.token_nats.masked_fill(given.to(estimate.token_nats.device), 0.0)
            for (piece, _), total in zip(chosen, scored.double().sum(-1).cpu(), strict=True):
                nats[piece].append(total)
        found |= {piece: torch.stack(totals) for piece, totals in nats.items()}
    return [_cost([found[piece] for piece in text], num_draws) for text in texts]


def _cost(parts: Sequence[Float[Tensor, " draws"]], num_draws: int) -> Cost:
    if not parts:
        return Cost(0.0, 0.0)
    totals = torch.stack(tuple(parts)).sum(0)
    stderr = float(totals.std()) / math.sqrt(num_draws) if num_draws > 1 else math.nan
    return Cost(float(totals.mean()), stderr)


def are_greedy(run: Run, texts: Sequence[Sequence[Piece]], label: str | None) -> list[bool]:
    """Return whether each scored token is the most likely one after those before it.

    Args:
        run: The model.
        texts: The windows of every text.
        label: Class of the texts; None leaves it open.

    Returns:
        One answer for each text. A two-sided model is called once for each batch of windows, any
        other for every scored token, many in a batch.
    """
    different = dict.fromkeys(piece for text in texts for piece in text)
    found: dict[Piece, bool] = {}
    for same in _by_length(different):
        length = len(same[0].tokens)
        size = rows_at_once(length, run.tokenizer.vocabulary_size)
        denoiser = run.denoiser_for(length, label)
        for begin in range(0, len(same), size):
            chosen = same[begin : begin + size]
            rows = torch.tensor([piece.tokens for piece in chosen], device=run.device)
            likely = _most_likely(denoiser, rows, size) == rows
            answers = (likely | _given(chosen, rows)).all(-1)
            found |= dict(zip(chosen, answers.tolist(), strict=True))
    return [all(found[piece] for piece in text) for text in texts]


@torch.no_grad()
def _most_likely(
    denoiser: Denoiser, rows: Int[Tensor, "batch length"], size: int
) -> Int[Tensor, "batch length"]:
    """Return the most likely token at every place, given those before it alone."""
    batch, length = rows.shape
    sides = between(denoiser)
    if sides is not None:
        read, unread = (
            start(denoiser.codebook, batch, length, known)
            for known in (rows, torch.full_like(rows, UNKNOWN))
        )
        return sides(read, unread).mode
    # One row for each place, in which all before it is known.
    places = torch.arange(length, device=rows.device)
    shown = rows[:, None].expand(batch, length, length)
    shown = shown.masked_fill(places >= places[:, None], UNKNOWN).flatten(0, 1)
    modes = [
        denoiser(start(denoiser.codebook, len(part), length, part)).mode
        for part in shown.split(size)
    ]
    return torch.cat(modes).view(batch, length, length).diagonal(dim1=1, dim2=2)


def _given(
    chosen: Sequence[Piece], rows: Int[Tensor, "batch length"]
) -> Bool[Tensor, "batch length"]:
    counts = torch.tensor([piece.given for piece in chosen], device=rows.device)
    return torch.arange(rows.shape[1], device=rows.device) < counts[:, None]


def _by_length(some: Iterable[Piece]) -> list[list[Piece]]:
    groups: dict[int, list[Piece]] = defaultdict(list)
    for piece in some:
        groups[len(piece.tokens)].append(piece)
    return list(groups.values())
