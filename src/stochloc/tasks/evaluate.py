"""Bounding the probability of a text under a model."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core import ChainDeviation, Denoiser, Estimate, chain_deviation, line_integral
from stochloc.data.labels import first_given, label_name
from stochloc.data.mixtures import Mixture
from stochloc.data.sequences import Rows, Sequences
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.counting import bytes_in, characters_in, given_in, tokens_in, what_is_counted
from stochloc.tasks.evaluated import Evaluated, Evaluation
from stochloc.tasks.numbers import check_least
from stochloc.tasks.parts import Part, TextPart
from stochloc.tasks.policies import FOLLOW_THE_PATH
from stochloc.tasks.runs import Run
from stochloc.tasks.windows import sequences_for, windows_for
from stochloc.training.seeds import seeded_streams

__all__ = ["Evaluated", "Evaluation", "evaluate", "evaluate_part", "evaluate_sequences"]


def evaluate_part(run: Run, part: Part, evaluation: Evaluation) -> Evaluated:
    """Bound `-log P` of a part of a text, or of sequences if the model is one of those.

    Args:
        run: The model.
        part: The text or the sequences, as `part_to_evaluate` returns them.
        evaluation: How to bound.

    Returns:
        The result.

    Raises:
        ValueError: The text or a setting is unusable.
    """
    if isinstance(part, TextPart):
        return evaluate(run, part.tokens, evaluation, part.mixture)
    return evaluate_sequences(run, part.sequences, evaluation)


def evaluate(
    run: Run, tokens: np.ndarray, evaluation: Evaluation, mixture: Mixture | None = None
) -> Evaluated:
    """Bound `-log P` of windows of a text.

    Args:
        run: The model.
        tokens: The text, 1-D.
        evaluation: How to bound.
        mixture: The texts that it is made of, whose shares the windows have; None for one text.

    Returns:
        The estimate, and the number of tokens and characters it covers.

    Raises:
        ValueError: The text is shorter than a window, a setting is out of range, or there is no
            such class.
    """
    _check(evaluation)
    cut = windows_for(run, tokens, evaluation.num_sequences or None, evaluation.label, mixture)
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


def evaluate_sequences(run: Run, sequences: Sequences, evaluation: Evaluation) -> Evaluated:
    """Bound `-log P` of whole sequences.

    Those of equal length are bounded together, so that none is padded.

    Args:
        run: The model, one of sequences.
        sequences: At least one, none longer than the model's window.
        evaluation: How to bound.

    Returns:
        The estimate given the lengths, and the cost of these.

    Raises:
        ValueError: There are no sequences, or none of the class, or a setting is out of range.
    """
    _check(evaluation)
    asked = sequences_for(run, sequences, evaluation.label)
    if not len(asked.sequences):
        raise ValueError("There are no sequences in this part of the data to evaluate on.")
    some = asked.sequences.spaced(evaluation.num_sequences or len(asked.sequences))
    groups = list(some.by_length())
    bounded = [_bounded(run, asked.denoiser, rows, evaluation) for rows in groups]
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
        what_is_counted(run.tokenizer, asked.is_labelled),
        math.log2(first_given(run.tokenizer)),
        _length_nats(run, some),
    )


def _length_nats(run: Run, sequences: Sequences) -> Float64[Tensor, " sequences"]:
    """Return `-log P(n)` of the lengths of sequences, each given its label if it has one."""
    assert run.lengths is not None
    lengths, labels = torch.from_numpy(sequences.lengths), sequences.labels
    if labels is None:
        return -run.lengths.log_prob(lengths)
    nats = torch.empty(len(sequences), dtype=torch.float64)
    for label in np.unique(labels).tolist():
        of_class, chosen = run.lengths.given(label_name(run.tokenizer, label)), labels == label
        nats[chosen] = -of_class.log_prob(lengths[chosen])
    return nats


def _check(evaluation: Evaluation) -> None:
    settings = evaluation.walk
    check_least(
        ("number of steps", settings.num_steps, 1),
        ("number of sequences", evaluation.num_sequences, 0),
        ("number of random orders", evaluation.num_orders or 0, 0),
        ("seed", evaluation.seed, 0),
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
