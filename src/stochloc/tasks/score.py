"""Pricing the lines of a text: what each line and each of its tokens costs a model.

A token's price is what it took along the path: for a walk that unmasks, `-log Q(x_i|z)` when it was
decided; for a diffusion, the sum of its steps. A line's price is the sum over its tokens, and a
line longer than the model's window is cut into windows priced one by one, which bounds the line as
a whole under the model that knows no more.
"""

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from stochloc.core import Estimate, Follow, Streams, bound, line_integral
from stochloc.data.legible import Legible, legible
from stochloc.tasks.infill import surrounded
from stochloc.tasks.runs import Run
from stochloc.tasks.tuned import path_for
from stochloc.tasks.walks import named_transition
from stochloc.training.seeds import seeded_streams

BATCH_TOKENS = 16_384
# Lines without a price that are named one by one.
MOST_REMARKS = 10


@dataclass(frozen=True)
class Scoring:
    """How to price.

    Attributes:
        path: Name of the path.
        transition: Name of the transition; without meaning for a line integral.
        num_steps: Steps of the walk; for a line integral, times drawn per sequence.
        continuous: Whether to take the line integral instead of the finite walk.
        seed: Seed of all randomness.
    """

    path: str = "masked"
    transition: str = "ancestral"
    num_steps: int = 64
    continuous: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.seed < 0:
            raise ValueError(
                "A score needs at least one step and a seed of at least 0, not "
                f"{self.num_steps} and {self.seed}."
            )


@dataclass(frozen=True)
class ScoredLine:
    """A line and its price.

    Attributes:
        text: The line as the model sees it.
        tokens: The text of every token.
        token_nats: The price of every token, in nats; single ones may be negative.
        refused: Why the line has no price, a sentence; None if it has one.
        notes: What was changed before the line was read.
    """

    text: str
    tokens: tuple[str, ...]
    token_nats: tuple[float, ...]
    refused: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def nats(self) -> float:
        """The price of the line, the sum over its tokens; 0 for an empty one."""
        return math.fsum(self.token_nats)

    @property
    def bits_per_character(self) -> float:
        """The price for each character; 0 for an empty line."""
        return self.nats / math.log(2) / max(1, len(self.text))

    def to_dict(self, with_tokens: bool) -> dict[str, Any]:
        """Return the prices as JSON values, those of the tokens only if asked; None if refused."""
        pairs = zip(self.tokens, self.token_nats, strict=True)
        tokens = [{"token": token, "nats": nats} for token, nats in pairs]
        return {
            "text": self.text,
            "nats": self.nats if self.refused is None else None,
            "bits_per_character": self.bits_per_character if self.refused is None else None,
            "refused": self.refused,
            **({"tokens": tokens} if with_tokens else {}),
        }


@dataclass(frozen=True)
class Scored:
    """The prices of a text.

    Attributes:
        lines: In the order of the text.
        scoring: How they were priced.
        denoiser_calls: Calls of the denoiser, each about a batch of lines.
        seconds: Time it took.
    """

    lines: tuple[ScoredLine, ...]
    scoring: Scoring
    denoiser_calls: int
    seconds: float

    @property
    def priced(self) -> tuple[ScoredLine, ...]:
        """The lines that have a price; all figures are about these."""
        return tuple(line for line in self.lines if line.refused is None)

    @property
    def nats(self) -> float:
        """The price of all lines together."""
        return math.fsum(line.nats for line in self.priced)

    @property
    def stderr(self) -> float:
        """Standard error of `nats` from the spread between lines, as if drawn independently."""
        return _stderr([line.nats for line in self.priced])

    @property
    def bits_per_character(self) -> float:
        """The price for each character of the text; 0 where there are none."""
        return self.nats / math.log(2) / max(1, self._characters)

    @property
    def bits_per_character_stderr(self) -> float:
        """Standard error of `bits_per_character`, a ratio: long lines may cost more in all."""
        rate = self.nats / max(1, self._characters)
        excess = [line.nats - rate * len(line.text) for line in self.priced]
        return _stderr(excess) / math.log(2) / max(1, self._characters)

    @property
    def _characters(self) -> int:
        return sum(len(line.text) for line in self.priced)

    def to_dict(self, with_tokens: bool) -> dict[str, Any]:
        """Return all prices as JSON values.

        Args:
            with_tokens: Whether to list the tokens of every line.

        Returns:
            Totals and lines; standard errors are None for fewer than two lines.
        """
        return {
            "nats": self.nats,
            "stderr": _number(self.stderr),
            "bits_per_character": self.bits_per_character,
            "bits_per_character_stderr": _number(self.bits_per_character_stderr),
            "characters": self._characters,
            "refused": len(self.lines) - len(self.priced),
            "lines": [line.to_dict(with_tokens) for line in self.lines],
            "path": self.scoring.path,
            "transition": None if self.scoring.continuous else self.scoring.transition,
            "steps": self.scoring.num_steps,
            "seed": self.scoring.seed,
            "denoiser_calls": self.denoiser_calls,
            "seconds": self.seconds,
        }


def score(run: Run, lines: Sequence[str], scoring: Scoring | None = None) -> Scored:
    """Price lines of any length; the same seed gives the same prices.

    Args:
        run: The model and its tokenizer.
        lines: Texts, without line breaks unless the model knows them.
        scoring: How to price.

    Returns:
        A price for every line and token: for a walk, an unbiased estimate of an upper bound on
        `-log P`; for a line integral, one whose average over the model's data is a bound. A line
        with characters the model has never seen has no price, and says why.

    Raises:
        ValueError: Every line has characters the model has never seen, or a setting makes no sense.
    """
    scoring = scoring or Scoring()
    started_s = time.monotonic()
    seen = [legible(line, run.tokenizer) for line in lines]
    refused = [_refusal(text, number) for number, text in enumerate(seen, start=1)]
    if refused and all(refused):
        raise ValueError(refused[0])
    encoded = [
        np.asarray(run.tokenizer.encode("" if why else text.text), dtype=np.int64)
        for text, why in zip(seen, refused, strict=True)
    ]
    nats = [np.zeros(len(ids)) for ids in encoded]
    places = defaultdict(list)
    for number, ids in enumerate(encoded):
        for begin in range(0, len(ids), run.length):
            places[min(run.length, len(ids) - begin)].append((number, begin))
    calls = 0
    batch = max(1, BATCH_TOKENS // run.length)
    for length, all_of_length in sorted(places.items()):
        for begin_batch in range(0, len(all_of_length), batch):
            chosen = all_of_length[begin_batch : begin_batch + batch]
            rows = np.stack([encoded[n][begin : begin + length] for n, begin in chosen])
            streams = seeded_streams(run.device, scoring.seed, chosen)
            estimate = _price(run, torch.from_numpy(rows).to(run.device), scoring, streams)
            calls += estimate.denoiser_calls
            for (n, begin), row in zip(chosen, estimate.token_nats.cpu().numpy(), strict=True):
                nats[n][begin : begin + length] = row
    return Scored(
        tuple(_scored_line(run, *row) for row in zip(encoded, nats, seen, refused, strict=True)),
        scoring,
        calls,
        time.monotonic() - started_s,
    )


def describe(scored: Scored, with_tokens: bool) -> str:
    """Return the prices as a table for a person.

    Args:
        scored: The prices.
        with_tokens: Whether to list every token below its line.

    Returns:
        Several lines of text, the totals last.
    """
    rows = ["     nats  bits/char  text"]
    for line in scored.lines:
        if line.refused is not None:
            rows.append(f"{'-':>9}  {'-':>9}  {line.text}")
            continue
        rows.append(f"{line.nats:9.3f}  {line.bits_per_character:9.3f}  {line.text}")
        if with_tokens:
            pairs = zip(line.tokens, line.token_nats, strict=True)
            rows += [f"{nats:9.3f}             {token!r}" for token, nats in pairs]
    spread = _give_or_take(scored.bits_per_character_stderr)
    rows += [
        f"{scored.nats:9.3f}{_give_or_take(scored.stderr)} nats in all",
        f"{scored.bits_per_character:9.3f}{spread} bits per "
        f"character; {scored.scoring.path} path, {scored.denoiser_calls} denoiser calls",
    ]
    return "\n".join(rows)


def remarks(scored: Scored) -> list[str]:
    """Return in sentences which lines have no price, and what was changed before others were read.

    Args:
        scored: The prices.

    Returns:
        Sentences, for a person.
    """
    notes = dict.fromkeys(note for line in scored.lines for note in line.notes)
    refused = [line.refused for line in scored.lines if line.refused is not None]
    shown = refused[:MOST_REMARKS]
    if more := len(refused) - len(shown):
        shown.append(f"{more} more lines have no price, for the same reason.")
    return [f"{note}." for note in notes] + shown


def _refusal(seen: Legible, number: int) -> str | None:
    try:
        seen.known_only()
    except ValueError as error:
        return f"Line {number}: {error}"
    return None


def _price(
    run: Run, tokens: Int[Tensor, "batch length"], scoring: Scoring, streams: Streams
) -> Estimate:
    denoiser = surrounded(run, tokens.shape[-1])
    path = path_for(run, scoring.path, scoring.transition, scoring.num_steps, scoring.continuous)
    if scoring.continuous:
        return line_integral(denoiser, tokens, path, scoring.num_steps, streams)
    transition = named_transition(scoring.transition)
    return bound(denoiser, tokens, Follow(path), transition, scoring.num_steps, streams)


def _scored_line(
    run: Run, ids: np.ndarray, nats: np.ndarray, seen: Legible, refused: str | None
) -> ScoredLine:
    decode = run.tokenizer.decode
    tokens = tuple(decode(ids[[i]]) for i in range(len(ids)))
    text = decode(ids) if refused is None else seen.text
    return ScoredLine(text, tokens, (*nats.tolist(),), refused, seen.notes)


def _stderr(values: Sequence[float]) -> float:
    """Return the standard error of a sum of independent draws; NaN for fewer than two."""
    return float(np.std(values, ddof=1) * math.sqrt(len(values))) if len(values) > 1 else math.nan


def _give_or_take(stderr: float) -> str:
    return "" if math.isnan(stderr) else f" ± {stderr:.3f}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
