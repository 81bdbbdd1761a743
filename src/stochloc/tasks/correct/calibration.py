"""Calibration of correction: the best soft mask and threshold of a model, stored beside the model.

Held-out text is corrupted at known rates and corrected in one pass at every setting of a grid. Of
the settings that keep clean text clean (at most one change in 1,000 characters), the one that
leaves the smallest share of errors, averaged over the rates, is chosen.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import product

import torch
from jaxtyping import Int
from torch import Tensor

from stochloc.data import held_out_windows
from stochloc.data.frames import frame_of
from stochloc.data.labels import LabelledTexts
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.correct.channels import SimulatedChannel, channel_of, snr_at, soft_mask
from stochloc.tasks.correct.decoding import choose
from stochloc.tasks.origins import read_origin
from stochloc.tasks.own_text import own_sequences, own_text
from stochloc.tasks.runs import Run
from stochloc.training.checkpoint import replacing

FILE = "correction.json"
NUM_WINDOWS = 48
NUM_SEQUENCES = 1024
NOISE_RATES = (0.02, 0.05, 0.1)
MASK_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
CLEAN_CHANGES = 0.001
FALLBACK_RATE, FALLBACK_THRESHOLD = 0.05, 0.7
Texts = Int[Tensor, "_ _"]


@dataclass(frozen=True)
class Defaults:
    """The default settings with which a model corrects text.

    Attributes:
        snr: SNR of the soft mask, in nats.
        threshold: The probability above which a change is made.
        clean_changes: Share of positions of clean text that were changed; None if not measured.
        errors_left: Share of errors that remained, averaged over the rates; None if not measured.
    """

    snr: float
    threshold: float
    clean_changes: float | None = None
    errors_left: float | None = None


def correction_defaults(
    run: Run, data: str | None = None, say: Callable[[str], None] = lambda line: None
) -> Defaults:
    """Return a model's defaults, measured at the first call and kept until the model changes.

    Args:
        run: The model.
        data: Where the run's text is now, if it was moved.
        say: Receives the reason if the defaults could not be measured.

    Returns:
        The defaults. Where the run's own validation text cannot be found they are those for an
        error rate of 5 %, and nothing is stored. Costs 40 denoiser calls the first time.

    Raises:
        ValueError: The file of the defaults is damaged.
    """
    text = (read_origin(run.folder).fingerprint or {}).get("valid")
    if (kept := _kept(run, text)) is not None:
        return kept
    channel = channel_of(run.tokenizer)
    try:
        clean = _clean_texts(run, data)
    except (ValueError, OSError) as error:
        say(
            f"stochloc: {str(error).rstrip('.')}; using settings that were not measured, "
            "for one wrong character in twenty."
        )
        return Defaults(snr_at(FALLBACK_RATE, channel.num_symbols), FALLBACK_THRESHOLD)
    chosen = _measure(run, channel, clean)
    # Where the folder cannot be written to, as in a hub's cache, every call measures again.
    with suppress(OSError), replacing(run.beside(FILE)) as file:
        values = {**asdict(chosen), "text": text}
        file.write_text(json.dumps(values, indent=2), encoding="utf-8")
    return chosen


def _kept(run: Run, text: str | None) -> Defaults | None:
    """Return the stored defaults if they were measured on this text since the model was written."""
    path = run.beside(FILE)
    if not (path.is_file() and path.stat().st_mtime >= run.weights.stat().st_mtime):
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        measured_on = values.pop("text", None)
        return Defaults(**values) if measured_on == text else None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged; delete it and try again.") from error


def _clean_texts(run: Run, data: str | None) -> list[Texts]:
    """Return validation texts without what stands around them, those of equal length together."""
    if run.lengths is not None:
        some = own_sequences(run, data).valid.cut(run.text_length).spaced(NUM_SEQUENCES)
        if not len(some):
            raise ValueError("There are no validation sequences")
        frame = frame_of(run.tokenizer)
        texts = (rows.tokens[:, len(frame.before) :] for rows in some.by_length())
        return [text[:, : text.shape[1] - len(frame.after)] for text in texts]
    valid = own_text(run, data).valid
    # Twice as long as needed, so that enough remains when characters are lost.
    length = 2 * run.text_length
    if run.tokenizer.labels:
        labelled = LabelledTexts.of(valid, run.tokenizer).held_out(length + 1, NUM_WINDOWS)
        return [labelled[:, 1:]]
    return [held_out_windows(valid, length, NUM_WINDOWS)]


def _measure(run: Run, channel: SimulatedChannel, clean: Sequence[Texts]) -> Defaults:
    generator = torch.Generator().manual_seed(0)
    texts = {
        rate: [
            (meant[:, : run.text_length], read[:, : run.text_length])
            for meant, read in (channel.corrupt(same, rate, generator) for same in clean)
        ]
        for rate in (0.0, *NOISE_RATES)
    }
    errors = {
        (mask, rate): _errors_after(run, channel, pairs, snr_at(mask, channel.num_symbols))
        for mask, (rate, pairs) in product(MASK_RATES, texts.items())
    }
    # A short text may contain no error at a low rate; it is then counted as containing one.
    before = {
        rate: max(1, sum(int((meant != read).sum()) for meant, read in pairs)) / _num_tokens(pairs)
        for rate, pairs in texts.items()
    }
    candidates = [
        Defaults(
            snr_at(mask, channel.num_symbols),
            threshold,
            errors[mask, 0.0][i],
            math.fsum(errors[mask, rate][i] / before[rate] for rate in NOISE_RATES)
            / len(NOISE_RATES),
        )
        for mask, (i, threshold) in product(MASK_RATES, enumerate(THRESHOLDS))
    ]
    return min(candidates, key=_badness)


def _badness(candidate: Defaults) -> tuple[float, float]:
    assert candidate.clean_changes is not None
    assert candidate.errors_left is not None
    return max(candidate.clean_changes, CLEAN_CHANGES), candidate.errors_left


def _num_tokens(pairs: Sequence[tuple[Texts, Texts]]) -> int:
    return sum(meant.numel() for meant, _ in pairs)


def _errors_after(
    run: Run, channel: SimulatedChannel, pairs: Sequence[tuple[Texts, Texts]], snr: float
) -> list[float]:
    """Return the share of wrong positions after one pass, for every threshold."""
    wrong = torch.zeros(len(THRESHOLDS), dtype=torch.float64)
    for rows, seen in _in_batches(run, pairs):
        levels = torch.full(seen.shape, snr, dtype=torch.float64, device=run.device)
        state = soft_mask(run.model.codebook, channel, seen, levels)
        with torch.no_grad():
            posterior = run.denoiser()(state)
        for i, threshold in enumerate(THRESHOLDS):
            tokens = choose(posterior, seen, threshold).tokens
            wrong[i] += float((tokens != rows).sum())
    return (wrong / _num_tokens(pairs)).tolist()


def _in_batches(run: Run, pairs: Sequence[tuple[Texts, Texts]]) -> Iterator[tuple[Texts, Texts]]:
    for meant, read in pairs:
        size = rows_at_once(meant.shape[1], run.tokenizer.vocabulary_size)
        for rows, seen in zip(meant.split(size), read.split(size), strict=True):
            yield rows.to(run.device), seen.to(run.device)
