"""Scored lines of a text: how they were scored, their costs, and how these are told.

Two errors are told apart: over the draws of the walks, which more draws make smaller, and over the
text, the spread between blocks of its lines.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stochloc.core.standard_errors import ratio_stderr
from stochloc.tasks.numbers import check_least
from stochloc.tasks.policies import FOLLOW_THE_PATH
from stochloc.tasks.walks import WalkSettings
from stochloc.terminal import times

# Lines that could not be scored and are reported one by one.
MOST_REMARKS = 10


@dataclass(frozen=True)
class Scoring:
    """How to score.

    Attributes:
        walk: How to walk, along a path; a line integral looks at its path and number of steps only.
        continuous: Whether to take the line integral instead of the finite walk.
        seed: Seed of all randomness.
        num_draws: Walks or integrals that are averaged; at least two for standard errors.
            Walks from left to right draw nothing and are taken once.
        label: The class of the lines, for a model with classes; None leaves it open.
    """

    walk: WalkSettings = field(default_factory=WalkSettings)
    continuous: bool = False
    seed: int = 0
    num_draws: int = 4
    label: str | None = None

    def __post_init__(self) -> None:
        if self.walk.policy != FOLLOW_THE_PATH:
            raise ValueError("Lines are scored along a path; leave out the policy.")
        check_least(
            ("number of steps", self.walk.num_steps, 1),
            ("number of draws", self.num_draws, 1),
            ("seed", self.seed, 0),
        )


@dataclass(frozen=True)
class ScoredLine:
    """A line and its cost.

    Attributes:
        text: The line as the model sees it.
        tokens: The text of every token.
        token_nats: The cost of every token, in nats; single ones may be negative.
        refused: Why the line was not scored, in one sentence; None if it was.
        notes: How the line was normalised.
        nats_stderr: Standard error of `nats` over the draws behind it; 0 where nothing is drawn,
            None for a single draw.
        num_bytes: Bytes of the line in UTF-8.
        length_nats: What the length of a sequence costs; None for lines that are no sequences, and
            for empty ones.
    """

    text: str
    tokens: tuple[str, ...]
    token_nats: tuple[float, ...]
    refused: str | None = None
    notes: tuple[str, ...] = ()
    nats_stderr: float | None = None
    num_bytes: int = 0
    length_nats: float | None = None

    @property
    def nats(self) -> float:
        """The cost of the line, the sum over its tokens; 0 for an empty one."""
        return math.fsum(self.token_nats)

    @property
    def nats_with_length(self) -> float | None:
        """The cost of the line and of its length; None where no length is modelled."""
        return None if self.length_nats is None else self.nats + self.length_nats

    @property
    def bits_per_character(self) -> float:
        """The cost per character; 0 for an empty line."""
        return self.nats / math.log(2) / max(1, len(self.text))

    @property
    def bits_per_byte(self) -> float:
        """The cost per byte; 0 for an empty line."""
        return self.nats / math.log(2) / max(1, self.num_bytes)

    def to_dict(self, with_tokens: bool) -> dict[str, Any]:
        """Return the costs as JSON values, with those of tokens on request; None if refused."""
        pairs = zip(self.tokens, self.token_nats, strict=True) if with_tokens else ()
        tokens = [{"token": token, "nats": nats} for token, nats in pairs]
        return {
            "text": self.text,
            "nats": self.nats if self.refused is None else None,
            "nats_with_length": self.nats_with_length,
            "nats_stderr": self.nats_stderr if self.refused is None else None,
            "bits_per_character": self.bits_per_character if self.refused is None else None,
            "bits_per_byte": self.bits_per_byte if self.refused is None else None,
            "refused": self.refused,
            **({"tokens": tokens} if with_tokens else {}),
        }


@dataclass(frozen=True)
class Scored:
    """The costs of a text.

    Attributes:
        lines: In the order of the text.
        scoring: How they were scored.
        denoiser_calls: Denoiser calls, each for a batch of lines.
        seconds: Time it took.
        counted: What "per token" means, in words.
        is_exact: Whether the costs are the sampler's own `-log P`, in which nothing is drawn.
    """

    lines: tuple[ScoredLine, ...]
    scoring: Scoring
    denoiser_calls: int
    seconds: float
    counted: str = "tokens of text"
    is_exact: bool = False

    @property
    def estimator(self) -> str:
        """What kind of number a cost is, in words."""
        if self.scoring.continuous:
            return f"line integrals, the average of {times(self.scoring.num_draws, 'draw')}"
        if self.is_exact:
            return "the exact likelihood"
        return f"a bound, the average of {times(self.scoring.num_draws, 'draw')}"

    @property
    def scored_lines(self) -> tuple[ScoredLine, ...]:
        """The lines that were scored, without blank ones; all figures are about these."""
        return tuple(line for line in self.lines if line.refused is None and line.tokens)

    @property
    def nats(self) -> float:
        """The total cost of all lines."""
        return math.fsum(line.nats for line in self.scored_lines)

    @property
    def nats_with_length(self) -> float | None:
        """The total cost of all lines and of their lengths; None where no length is modelled."""
        costs = [line.nats_with_length for line in self.scored_lines]
        told = [cost for cost in costs if cost is not None]
        return math.fsum(told) if told else None

    @property
    def draws_stderr(self) -> float | None:
        """Standard error of `nats` over the draws: how far other seeds lie from it.

        Lines of the same text share their draws, so their errors add up; those of others do not.
        """
        counts, errors = Counter(line.text for line in self.scored_lines), {}
        for line in self.scored_lines:
            if line.nats_stderr is None:
                return None
            errors[line.text] = line.nats_stderr
        return math.hypot(*(counts[text] * error for text, error in errors.items()))

    @property
    def stderr(self) -> float:
        """Standard error of `nats` over the text: its spread between blocks of lines."""
        lines = self.scored_lines
        return float(ratio_stderr(*self._nats_and(1.0 for _ in lines))) * len(lines)

    @property
    def bits_per_character(self) -> float:
        """The cost per character of the text; 0 if there are none."""
        return self.nats / math.log(2) / max(1, self._characters)

    @property
    def bits_per_byte(self) -> float:
        """The cost per byte of the text; 0 if there are none."""
        return self.nats / math.log(2) / max(1, self._bytes)

    @property
    def bits_per_character_stderr(self) -> float:
        """Standard error of `bits_per_character`, a ratio, over blocks of lines."""
        characters = (float(len(line.text)) for line in self.scored_lines)
        return float(ratio_stderr(*self._nats_and(characters))) / math.log(2)

    def _nats_and(self, sizes: Iterator[float]) -> tuple[Tensor, Tensor]:
        nats = [line.nats for line in self.scored_lines]
        return torch.tensor(nats).double(), torch.tensor(list(sizes)).double()

    @property
    def _characters(self) -> int:
        return sum(len(line.text) for line in self.scored_lines)

    @property
    def _bytes(self) -> int:
        return sum(line.num_bytes for line in self.scored_lines)

    def to_dict(self, with_tokens: bool) -> dict[str, Any]:
        """Return all costs as JSON values.

        Args:
            with_tokens: Whether to list the tokens of every line.

        Returns:
            Totals and lines. `stderr` is over the text, None for fewer than two lines;
            `draws_stderr` and the lines' `nats_stderr` are over the draws, None for a single one.
        """
        return {
            "nats": self.nats,
            "nats_with_length": self.nats_with_length,
            "stderr": _number(self.stderr),
            "draws_stderr": self.draws_stderr,
            "bits_per_character": self.bits_per_character,
            "bits_per_character_stderr": _number(self.bits_per_character_stderr),
            "bits_per_byte": self.bits_per_byte,
            "characters": self._characters,
            "bytes": self._bytes,
            "counted": self.counted,
            "refused": sum(line.refused is not None for line in self.lines),
            "lines": [line.to_dict(with_tokens) for line in self.lines],
            "path": self.scoring.walk.path,
            "transition": None if self.scoring.continuous else self.scoring.walk.transition,
            "steps": self.scoring.walk.num_steps,
            "draws": self.scoring.num_draws,
            "seed": self.scoring.seed,
            "is_exact": self.is_exact,
            "estimator": self.estimator,
            "denoiser_calls": self.denoiser_calls,
            "seconds": self.seconds,
        }


def describe(scored: Scored, with_tokens: bool) -> str:
    """Return the costs as a readable table.

    Args:
        scored: The costs.
        with_tokens: Whether to list every token below its line.

    Returns:
        Several lines of text, the totals last. The nats of a sequence include those of its length.
    """
    rows = [_row("nats", "±", "bits/char", "text", scored.is_exact)]
    for line in scored.lines:
        if line.refused is not None:
            rows.append(_row("-", "-", "-", line.text, scored.is_exact))
            continue
        if not line.tokens:
            rows.append(_row("-", "-", "-", "(empty line, not scored)", scored.is_exact))
            continue
        spread = "" if line.nats_stderr is None else f"{line.nats_stderr:.3f}"
        bits = f"{line.bits_per_character:.3f}"
        whole = line.nats if line.nats_with_length is None else line.nats_with_length
        rows.append(_row(f"{whole:.3f}", spread, bits, line.text, scored.is_exact))
        if with_tokens:
            pairs = zip(line.tokens, line.token_nats, strict=True)
            rows += [
                _row(f"{nats:.3f}", "", "", repr(token), scored.is_exact) for token, nats in pairs
            ]
    by_draws = "" if not scored.draws_stderr else f" ± {scored.draws_stderr:.3f} over the draws"
    by_text = scored.bits_per_character_stderr
    spread = "" if math.isnan(by_text) else f" ± {by_text:.3f} over the text"
    with_length = scored.nats_with_length
    of_lengths = "" if with_length is None else f", {with_length:.3f} with those of the lengths"
    rows += [
        f"{scored.nats:9.3f} nats in all{by_draws}{of_lengths}",
        f"{scored.bits_per_character:9.3f} bits per character{spread}, "
        f"{scored.bits_per_byte:.3f} per byte; counted: {scored.counted}; "
        f"{scored.estimator}, {scored.scoring.walk.path} path, "
        f"{times(scored.denoiser_calls, 'denoiser call')}",
    ]
    return "\n".join(rows)


def _row(nats: str, spread: str, bits: str, text: str, is_exact: bool) -> str:
    """Return a row of the table, without the column of errors where nothing is drawn."""
    error = "" if is_exact else f"  {spread:>7}"
    return f"{nats:>9}{error}  {bits:>9}  {text}"


def remarks(scored: Scored) -> list[str]:
    """Return sentences about the lines that were refused and the changes made to others.

    Args:
        scored: The costs.

    Returns:
        Sentences, for a person.
    """
    notes = dict.fromkeys(note for line in scored.lines for note in line.notes)
    refused = [line.refused for line in scored.lines if line.refused is not None]
    shown = refused[:MOST_REMARKS]
    if more := len(refused) - len(shown):
        shown.append(f"{more} more lines were not scored, for the same reason.")
    return [f"{note}." for note in notes] + shown


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
