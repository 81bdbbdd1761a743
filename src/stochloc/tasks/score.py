"""Scoring the lines of a text: the cost of each line and of each of its tokens under a model.

A two-sided model gives the exact chain rule from left to right in one call, and is asked for that
unless told otherwise: no noise, and the same text always has the same cost. Any other walk bounds
the cost. The cost of a token is accumulated along the path: for a walk that unmasks,
`-log Q(x_i|z)` when it was decided; for a diffusion, the sum over its steps. The cost of a line is
the sum over its tokens. A line longer than the model's window is cut into windows that are scored
separately, which bounds the line as a whole under the model without context beyond a window.

Most walks are random, in their order or noise, so their cost is the average of several draws and
has a standard error. Random streams are keyed by the text itself: the same line has the same cost
wherever it occurs and whatever its neighbours are.

To a model of sequences every line is a whole one, between its two boundaries. It costs
`-log P(x|n)` given its length and `-log P(n)` more without; a line longer than any sequence the
model knows has probability 0, as has an empty one, and is refused.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import Autoregressive, Estimate, Streams, between, line_integral
from stochloc.data.normalisation import NormalisedText, normalise
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.counting import what_is_counted
from stochloc.tasks.runs import Run
from stochloc.tasks.scored import Scored, ScoredLine, Scoring
from stochloc.tasks.walks import Walk, WalkSettings, default_steps
from stochloc.training.seeds import seeded_streams

Tokens = tuple[int, ...]
# Where in its line a window begins, and its tokens.
Window = tuple[int, Tokens]


def default_scoring(run: Run) -> Scoring:
    """Return how lines are scored when nobody says.

    Args:
        run: The model.

    Returns:
        From left to right, exactly, where that takes one call; else by random orders.
    """
    if between(run.model) is None:
        return Scoring()
    return Scoring(WalkSettings("autoregressive", num_steps=run.text_length), num_draws=1)


def chosen_scoring(
    run: Run,
    path: str | None = None,
    transition: str | None = None,
    steps: int | None = None,
    draws: int | None = None,
    continuous: bool = False,
    seed: int = 0,
    label: str | None = None,
) -> Scoring:
    """Return how lines are scored where the user may have named something about it.

    Args:
        run: The model.
        path: Name of the path; None if the user names none, as below.
        transition: Name of the transition.
        steps: Steps of the walk or of the integral.
        draws: Walks that are averaged.
        continuous: Whether to take the line integral.
        seed: Seed of all randomness.
        label: Class of the lines; None leaves it open.

    Returns:
        `default_scoring` unless anything but seed and label was named; then on the masked path,
        with as many steps as `default_steps` says, where that is absent.

    Raises:
        ValueError: A number is not positive.
    """
    if not continuous and all(named is None for named in (path, transition, steps, draws)):
        return replace(default_scoring(run), seed=seed, label=label)
    path = path or "masked"
    if steps is None:
        steps = default_steps(None if continuous else path, run, run.text_length)
    walk = WalkSettings(path, transition or WalkSettings.transition, steps)
    draws = Scoring.num_draws if draws is None else draws
    return Scoring(walk, continuous, seed, draws, label)


def score(run: Run, lines: str | Sequence[str], scoring: Scoring | None = None) -> Scored:
    """Score lines of any length; the same seed gives the same costs.

    Args:
        run: The model and its tokenizer.
        lines: Texts, without line breaks unless the model knows them; one text is one line.
        scoring: How to score; `default_scoring` when absent.

    Returns:
        A cost for every line and token: from left to right the exact `-log P`; for another walk,
        an unbiased estimate of an upper bound on it; for a line integral, one whose average over
        the model's data is a bound. It is the average of the draws, with its standard error, and
        the same for the same text. A line with characters the model has never seen is refused,
        with the reason. Takes as many denoiser calls as the walk, or the steps of the integral, per
        different line and draw; the default of a two-sided model takes one.

    Raises:
        ValueError: Every line has characters the model has never seen, a setting makes no sense, or
            there is no such class.
    """
    lines = (lines,) if isinstance(lines, str) else lines
    named = [(f"Line {number}", line) for number, line in enumerate(lines, start=1)]
    scored = score_named(run, named, scoring or default_scoring(run))
    refused = [line.refused for line in scored.lines]
    if refused and all(refused):
        raise ValueError(refused[0])
    return scored


def score_named(run: Run, lines: Sequence[tuple[str, str]], scoring: Scoring) -> Scored:
    """Score lines as `score` does, and refuse single ones by their names, if need be all.

    Args:
        run: The model and its tokenizer.
        lines: The name of every line, for the beginning of a sentence, and the line.
        scoring: How to score.

    Returns:
        What `score` gives.

    Raises:
        ValueError: A setting makes no sense.
    """
    started_s = time.monotonic()
    walk = scoring.walk.resolve(run, scoring.continuous)
    seen = [normalise(line, run.tokenizer) for _, line in lines]
    read = [_read(run, text, name) for text, (name, _) in zip(seen, lines, strict=True)]
    encoded, refused = [ids for ids, _ in read], [why for _, why in read]
    wanted = {window for ids in encoded for window in _windows(ids, run.text_length)}
    # From left to right nothing is drawn.
    is_exact = isinstance(walk.path, Autoregressive) and not scoring.continuous
    num_draws = 1 if is_exact else scoring.num_draws
    costs, calls = _cost(run, sorted(wanted), walk, scoring, num_draws)
    rows = zip(encoded, seen, refused, strict=True)
    spell = cache(lambda token: run.tokenizer.decode(np.array([token])))
    return Scored(
        tuple(
            _scored_line(run, ids, costs, is_exact, text, why, spell, scoring.label)
            for ids, text, why in rows
        ),
        scoring,
        calls,
        time.monotonic() - started_s,
        what_is_counted(run.tokenizer, is_labelled=scoring.label is not None),
        is_exact,
    )


def _read(run: Run, seen: NormalisedText, name: str) -> tuple[Tokens, str | None]:
    """Return the tokens of a line, or none and why it cannot be scored."""
    try:
        ids = tuple(map(int, run.tokenizer.encode(seen.known_only())))
    except ValueError as error:
        return (), f"{name}: {error}"
    if run.lengths is None:
        return ids, None
    if not ids:
        return (), f"{name} is empty, which no sequence is."
    if len(ids) > run.text_length:
        return (), (
            f"{name} has {len(ids)} tokens, but the model knows sequences of at most "
            f"{run.text_length}."
        )
    return ids, None


def _windows(ids: Tokens, length: int) -> list[Window]:
    return [(begin, ids[begin : begin + length]) for begin in range(0, len(ids), length)]


def _cost(
    run: Run, windows: Sequence[Window], walk: Walk, scoring: Scoring, num_draws: int
) -> tuple[dict[Window, Float[Tensor, "draws length"]], int]:
    """Return the cost of every window in every draw, and the denoiser calls."""
    of_length: dict[int, list[Window]] = defaultdict(list)
    for window in windows:
        of_length[len(window[1])].append(window)
    nats: dict[Window, list[Tensor]] = defaultdict(list)
    size, calls = rows_at_once(run.text_length, run.tokenizer.vocabulary_size), 0
    for same in of_length.values():
        jobs = [(window, draw) for window in same for draw in range(num_draws)]
        for begin in range(0, len(jobs), size):
            chosen = jobs[begin : begin + size]
            rows = torch.tensor([ids for (_, ids), _ in chosen], device=run.device)
            names = ((draw, place, *ids) for (place, ids), draw in chosen)
            streams = seeded_streams(run.device, scoring.seed, names)
            estimate = _bound(run, rows, walk, scoring, streams)
            calls += estimate.denoiser_calls
            for (window, _), row in zip(chosen, estimate.token_nats.cpu(), strict=True):
                nats[window].append(row)
    return {window: torch.stack(rows) for window, rows in nats.items()}, calls


def _bound(
    run: Run, tokens: Int[Tensor, "batch length"], walk: Walk, scoring: Scoring, streams: Streams
) -> Estimate:
    denoiser = run.denoiser_for(tokens.shape[-1], scoring.label)
    if scoring.continuous:
        return line_integral(denoiser, tokens, walk.path, walk.num_steps, streams)
    return walk.bound(denoiser, tokens, streams)


def _scored_line(
    run: Run,
    ids: Tokens,
    costs: dict[Window, Float[Tensor, "draws length"]],
    is_exact: bool,
    seen: NormalisedText,
    refused: str | None,
    spell: Callable[[int], str],
    label: str | None,
) -> ScoredLine:
    tokens = tuple(map(spell, ids))
    whole = np.array(ids, dtype=np.int64)
    text = run.tokenizer.decode(whole) if refused is None else seen.text
    if not ids:
        return ScoredLine(text, (), (), refused, seen.notes, 0.0)
    draws = torch.cat([costs[window] for window in _windows(ids, run.text_length)], -1)
    stderr = 0.0 if is_exact else None
    if len(draws) > 1:
        stderr = float(draws.sum(-1).std() / math.sqrt(len(draws)))
    nats = tuple(draws.mean(0).tolist())
    num_bytes = len(run.tokenizer.decode_bytes(whole))
    length_nats = None if run.lengths is None else run.length_nats(len(ids), label)
    return ScoredLine(text, tokens, nats, refused, seen.notes, stderr, num_bytes, length_nats)
