"""Bounding the probability of a text under a model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core import ChainDeviation, Denoiser, Estimate, chain_deviation, line_integral
from stochloc.core.standard_errors import ratio_stderr
from stochloc.data.labels import first_given
from stochloc.data.records import Reading
from stochloc.data.sequences import Rows, Sequences
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.counting import bytes_in, characters_in, given_in, tokens_in, what_is_counted
from stochloc.tasks.parts import sequences_to_evaluate, tokens_to_evaluate
from stochloc.tasks.policies import FOLLOW_THE_PATH
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import WalkSettings
from stochloc.tasks.windows import windows_for
from stochloc.training.seeds import seeded_streams

_AS_TEXT = Reading()


@dataclass(frozen=True)
class Evaluation:
    """How to bound.

    Attributes:
        walk: How to walk; a line integral uses only its path and number of steps.
        continuous: Whether to take the line integral instead of the finite walk.
        num_sequences: Windows of text, evenly spaced; 0 for all.
        seed: Seed of all randomness.
        num_orders: Random orders by which to measure the deviation from the chain rule, beside left
            to right and right to left; None not to measure it.
    """

    walk: WalkSettings = field(default_factory=WalkSettings)
    continuous: bool = False
    num_sequences: int = 128
    seed: int = 0
    num_orders: int | None = None

    def estimator(self, is_exact: bool) -> str:
        """Return a description of the estimator.

        Args:
            is_exact: Whether the walk has turned out to be exact for its sampler.

        Returns:
            A phrase.
        """
        if self.continuous:
            return "line integral (paper eq. 13), a bound on average over the text"
        chosen = self.walk.policy
        policy = "" if chosen == FOLLOW_THE_PATH else f" with the policy {chosen.name}"
        again = ", which counts the cost of rewound tokens again" if chosen.takes_back else ""
        what = "the exact likelihood under" if is_exact else "a bound for"
        return (
            f"guided walk, {what} the {self.walk.num_steps}-step {self.walk.transition} "
            f"sampler{policy}{again}"
        )


def evaluate_part(
    run: Run,
    data: str | None,
    split: str | None,
    evaluation: Evaluation,
    reading: Reading = _AS_TEXT,
) -> tuple["Evaluated", str]:
    """Bound `-log P` of a part of a text, or of sequences if the model is one of those.

    Args:
        run: The model.
        data: As `tokens_to_evaluate`.
        split: As `tokens_to_evaluate`.
        evaluation: How to bound.
        reading: As `tokens_to_evaluate`.

    Returns:
        The result, and a description of the text.

    Raises:
        ValueError: The text or a setting is unusable.
    """
    if run.lengths is None:
        tokens, described = tokens_to_evaluate(run, data, split, reading)
        return evaluate(run, tokens, evaluation), described
    sequences, described = sequences_to_evaluate(run, data, split, reading)
    return evaluate_sequences(run, sequences, evaluation), described


def evaluate(run: Run, tokens: np.ndarray, evaluation: Evaluation) -> "Evaluated":
    """Bound `-log P` of windows of a text.

    Args:
        run: The model.
        tokens: The text, 1-D.
        evaluation: How to bound.

    Returns:
        The estimate, and the number of tokens and characters it covers.

    Raises:
        ValueError: The text is shorter than a window, or a setting is out of range.
    """
    _check(evaluation)
    cut = windows_for(run, tokens, evaluation.num_sequences or None)
    windows = cut.tokens
    rows = Rows(torch.arange(len(windows)), windows)
    estimate, deviation = _bounded(run, cut.denoiser, rows, evaluation)
    return Evaluated(
        evaluation,
        estimate,
        deviation,
        tokens_in(run.tokenizer, windows),
        characters_in(run.tokenizer, windows),
        bytes_in(run.tokenizer, windows),
        what_is_counted(run.tokenizer, cut.is_labelled),
        math.log2(first_given(run.tokenizer)),
    )


def evaluate_sequences(run: Run, sequences: Sequences, evaluation: Evaluation) -> "Evaluated":
    """Bound `-log P` of whole sequences.

    Those of equal length are bounded together, so that none is padded.

    Args:
        run: The model, one of sequences.
        sequences: At least one, none longer than the model's window.
        evaluation: How to bound.

    Returns:
        The estimate given the lengths, and the cost of these.

    Raises:
        ValueError: There are no sequences, or a setting is out of range.
    """
    _check(evaluation)
    assert run.lengths is not None
    if not len(sequences):
        raise ValueError("There are no sequences in this part of the data to evaluate on.")
    some = sequences.spaced(evaluation.num_sequences or len(sequences))
    groups = list(some.by_length())
    bounded = [_bounded(run, run.model, rows, evaluation) for rows in groups]
    order = torch.cat([rows.numbers for rows in groups]).argsort()
    deviations = [deviation for _, deviation in bounded if deviation is not None]
    sizes = [
        torch.cat([count(run.tokenizer, rows.tokens) for rows in groups])[order]
        for count in (tokens_in, characters_in, bytes_in)
    ]
    return Evaluated(
        evaluation,
        _in_order([estimate for estimate, _ in bounded], order),
        _deviation_in_order(deviations, order) if deviations else None,
        sizes[0],
        sizes[1],
        sizes[2],
        what_is_counted(run.tokenizer),
        math.log2(first_given(run.tokenizer)),
        -run.lengths.log_prob(sizes[0]),
    )


def _check(evaluation: Evaluation) -> None:
    settings = evaluation.walk
    if settings.num_steps < 1 or evaluation.num_sequences < 0 or evaluation.seed < 0:
        raise ValueError(
            "An evaluation needs at least one step, and a number of sequences and a seed of at "
            f"least 0, not {settings.num_steps}, {evaluation.num_sequences}, {evaluation.seed}."
        )
    if evaluation.num_orders is not None and evaluation.num_orders < 0:
        raise ValueError(
            f"The number of random orders must be at least 0, not {evaluation.num_orders}."
        )
    if evaluation.continuous and settings.policy != FOLLOW_THE_PATH:
        raise ValueError("A line integral follows a path; leave out the policy, or --continuous.")
    if settings.policy.corrector_rounds:
        raise ValueError(
            "Corrector rounds have no useful bound: it would count the cost of every rewound token "
            "again. Leave out --corrector-rounds to bound the walk itself."
        )


def _bounded(
    run: Run, denoiser: Denoiser, every: Rows, evaluation: Evaluation
) -> tuple[Estimate, ChainDeviation | None]:
    """Bound rows of equal length, and measure the deviation from the chain rule if asked for."""
    walk = evaluation.walk.resolve(run, evaluation.continuous)
    parts, deviations = [], []
    batch = rows_at_once(every.tokens.shape[1], run.tokenizer.vocabulary_size)
    for begin in range(0, len(every.tokens), batch):
        rows = every.tokens[begin : begin + batch].to(run.device)
        names = ((number,) for number in every.numbers[begin : begin + batch].tolist())
        streams = seeded_streams(run.device, evaluation.seed, names)
        known = given_in(run.tokenizer, rows)
        if evaluation.continuous:
            part = line_integral(denoiser, rows, walk.path, walk.num_steps, streams, known)
        else:
            part = walk.bound(denoiser, rows, streams, known)
        parts.append(part)
        if evaluation.num_orders is not None:
            # After the bound, so that the streams give it the same noise with and without.
            orders = evaluation.num_orders
            deviations.append(chain_deviation(denoiser, rows, orders, streams, known))
    return Estimate.join(parts), ChainDeviation.join(deviations) if deviations else None


def _in_order(estimates: Sequence[Estimate], order: Int[Tensor, " rows"]) -> Estimate:
    """Join estimates of different lengths; where a sequence has ended a token costs nothing."""
    length = max(estimate.token_nats.shape[1] for estimate in estimates)
    nats = [F.pad(e.token_nats, (0, length - e.token_nats.shape[1])) for e in estimates]
    padded = [replace(e, token_nats=n) for e, n in zip(estimates, nats, strict=True)]
    joined = Estimate.join(padded)
    return replace(joined, token_nats=joined.token_nats[order.to(joined.token_nats.device)])


def _deviation_in_order(
    deviations: Sequence[ChainDeviation], order: Int[Tensor, " rows"]
) -> ChainDeviation:
    along = zip(*(deviation.along for deviation in deviations), strict=True)
    return ChainDeviation(tuple(_in_order(estimates, order) for estimates in along))


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The result of an evaluation.

    Attributes:
        evaluation: The settings.
        estimate: Nats of every window and its tokens, in the order of the text.
        deviation: What the chain rule gives along several orders, if that was asked for.
        tokens: Tokens of every window that are scored.
        characters: Characters of text in every window.
        num_bytes: Bytes of text in every window.
        counted: What "per token" means, in words.
        uniform_bits: Bits per token of guessing, the logarithm of the vocabulary's size.
        length_nats: `-log P(n)` of the length of every sequence; None for windows, which have none.
    """

    evaluation: Evaluation
    estimate: Estimate
    deviation: ChainDeviation | None
    tokens: Int[Tensor, " windows"]
    characters: Int[Tensor, " windows"]
    num_bytes: Int[Tensor, " windows"]
    counted: str
    uniform_bits: float
    length_nats: Float[Tensor, " windows"] | None = None

    @property
    def bits_per_token(self) -> float:
        """The bound divided by the number of scored tokens."""
        return self._rate(self.tokens)[0]

    @property
    def is_empty(self) -> bool:
        """Whether uniform guessing costs less, so that the bound says nothing about the model."""
        return self.bits_per_token > self.uniform_bits

    def to_dict(self) -> dict[str, Any]:
        """Return the figures in nats, and in bits per token, per character and per byte.

        Bits per byte compare models of different tokens; a byte is one of UTF-8.

        Returns:
            JSON values; standard errors are those of ratios over blocks of neighbouring windows
            (`core.standard_errors`), None for a single sequence. `path` is None under a policy that
            follows none. `is_empty` is true if uniform guessing costs less than the bound.
            `is_exact` is true if the bound is the sampler's own `-log P`. `chain_rule` is None if
            it was not asked for. `length` is that of a window, or of the longest sequence with its
            boundaries. All figures of sequences are given their lengths, but for
            `nats_per_sequence_with_length`.
        """
        estimate, evaluation, walk = self.estimate, self.evaluation, self.evaluation.walk
        sequences, length = estimate.token_nats.shape
        bits_per_token, token_stderr = self._rate(self.tokens)
        bits_per_character, character_stderr = self._rate(self.characters)
        bits_per_byte, byte_stderr = self._rate(self.num_bytes)
        bits_per_sequence, sequence_stderr = self._rate(torch.ones(sequences))
        return {
            "bits_per_token": bits_per_token,
            "stderr": token_stderr,
            "bits_per_character": bits_per_character,
            "bits_per_character_stderr": character_stderr,
            "bits_per_byte": bits_per_byte,
            "bits_per_byte_stderr": byte_stderr,
            "nats_per_sequence": bits_per_sequence * math.log(2),
            "nats_per_sequence_stderr": sequence_stderr and sequence_stderr * math.log(2),
            **self._with_length(),
            "sequences": sequences,
            "length": length,
            "tokens": int(self.tokens.sum()),
            "characters": int(self.characters.sum()),
            "bytes": int(self.num_bytes.sum()),
            "counted": self.counted,
            "is_empty": self.is_empty,
            "is_exact": estimate.is_exact,
            "path": walk.followed_path,
            "policy": walk.policy.name,
            "transition": None if evaluation.continuous else walk.transition,
            "steps": walk.num_steps,
            "estimator": evaluation.estimator(estimate.is_exact),
            "denoiser_calls": estimate.denoiser_calls,
            "seed": evaluation.seed,
            "chain_rule": self.deviation and self._chain_rule(self.deviation),
        }

    def _with_length(self) -> dict[str, Any]:
        """Return the cost of whole sequences, `-log P(n) - log P(x | n)`, if they are some."""
        if self.length_nats is None:
            return {}
        total = self.estimate.values.cpu() + self.length_nats
        bits, stderr = _bits_per(torch.ones(len(total)), total)
        return {
            "nats_per_sequence_with_length": bits * math.log(2),
            "nats_per_sequence_with_length_stderr": stderr and stderr * math.log(2),
        }

    def _chain_rule(self, deviation: ChainDeviation) -> dict[str, Any]:
        """Return how much the orders disagree, and what each costs, in bits per token."""
        mean, stderr = _bits_per(self.tokens, deviation.values)
        costs = [_bits_per(self.tokens, along.values)[0] for along in deviation.along]
        return {
            "deviation_bits_per_token": mean,
            "stderr": stderr,
            "left_to_right": costs[0],
            "right_to_left": costs[1],
            "random_orders": costs[2:],
            "denoiser_calls": deviation.denoiser_calls,
        }

    def _rate(self, sizes: Tensor) -> tuple[float, float | None]:
        return _bits_per(sizes, self.estimate.values)


def _bits_per(sizes: Tensor, nats: Tensor) -> tuple[float, float | None]:
    """Return bits per unit of size, and the standard error if there are two windows."""
    bits = nats.cpu() / math.log(2)
    stderr = float(ratio_stderr(bits, sizes))
    mean = float(bits.sum()) / max(1.0, float(sizes.sum()))
    return mean, None if math.isnan(stderr) else stderr
