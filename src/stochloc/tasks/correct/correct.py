"""Correcting corrupted text: the text as read is evidence about the original.

Every character becomes a soft mask (`tasks.correct.channels`), so the positions of the errors need
not be known. A two-sided model, which knows the exact likelihood of a text of any length in one
call, weighs single edits (`tasks.correct.edits`); of any other, one pass or a walk decides
(`tasks.correct.decoding`). For these the strength of the masks and the threshold for a change are
calibrated on held-out text, once for every model (`tasks.correct.calibration`).

Edits find lost and added characters, and so does a model of texts in slots (`stochloc train
--slots`); one pass and walks of any other model keep the length. Texts longer than the model's
window are corrected in windows that overlap by half; each position is decided in the window whose
centre is nearest.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import UNKNOWN, between
from stochloc.data import Tokenizer
from stochloc.data.normalisation import NormalisedText, normalise
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.correct.calibration import correction_defaults
from stochloc.tasks.correct.channels import Channel, channel_of, rate_at, snr_at, soft_mask
from stochloc.tasks.correct.confusions import Confusions
from stochloc.tasks.correct.correction import Change, Correction
from stochloc.tasks.correct.decoding import OnePass
from stochloc.tasks.correct.edits import LikelyEdits
from stochloc.tasks.correct.errors import EqualKinds, Errors
from stochloc.tasks.correct.lines import correct_lines, is_several
from stochloc.tasks.correct.reading import Decision, Decoder, Reading
from stochloc.tasks.overlapping import Overlapping
from stochloc.tasks.runs import Run
from stochloc.terminal import times

# Errors of each kind, and a probability, for all models: from validation text
# (docs/results/correction.md).
EDIT_RATE, EDIT_THRESHOLD = 1 / 200, 0.5


def prefers_edits(run: Run) -> bool:
    """Return whether a model corrects by edits when nobody says how.

    Args:
        run: The model.

    Returns:
        Whether it gives the exact likelihood of a text of any length in one call.
    """
    return between(run.model) is not None and run.tokenizer.slots is None


def edit_snr(run: Run) -> float:
    """Return the log-odds of a token that was read against any other, where nobody says.

    Args:
        run: The model.

    Returns:
        g in nats: that of an error of each kind in 200 tokens, for all models.
    """
    return snr_at(EDIT_RATE, channel_of(run.tokenizer).num_symbols)


def correct(
    run: Run,
    text: str,
    decoder: Decoder | None = None,
    snr: float | None = None,
    confidences: str | Sequence[float] | None = None,
    label: str | None = None,
    confusions: Confusions | None = None,
) -> Correction:
    """Correct a corrupted text.

    Args:
        run: The model and its tokenizer.
        text: The text as read; of a model of sequences, every line is one. Characters, or words,
            that the model does not know are blanks (SNR 0): they are first filled with the most
            probable tokens in one call, whatever the threshold.
        decoder: How to decide; by default by edits where the model `prefers_edits`, else in one
            pass with the model's own threshold.
        snr: SNR of the soft mask, g, in `[0, ∞]`: the log-odds of what was read against any other
            symbol; ∞ changes nothing, 0 ignores the text. By default `edit_snr` for edits, else the
            model's own.
        confidences: Probability that each character was read correctly, in `[0, 1]`, one for each
            token of the text, or a string that `parse_confidences` accepts; a character of
            confidence 1 never changes. Replaces `snr`.
        label: The class of the text, for a model with classes; None leaves it open. A decoder that
            is given weighs lengths by its own distribution.
        confusions: What errors look like, learned by `confusions_of` from examples. Replaces `snr`,
            and confidences of one's own cannot be given.

    Returns:
        The text and its changes. An edit of one place or gap is one change, a swap of two
        neighbours is two. Posterior probabilities are exact for simplex codes, errors at
        the given rate and the exact denoiser; with a network they are only as accurate as the
        network.

    Raises:
        ValueError: The text is empty, a setting is out of range, there is not one confidence for
            each character, or there is no such class.
    """
    if run.lengths is not None and is_several(text):
        if confidences is not None:
            raise ValueError("Confidences are those of one sequence; give one line at a time.")
        return correct_lines(
            text, lambda line: correct(run, line, decoder, snr, None, label, confusions)
        )
    if confusions is not None and (snr, confidences) != (None, None):
        raise ValueError(
            "Errors learned from examples already say how far to trust a text: leave out its SNR "
            "and its confidences."
        )
    started_s = time.monotonic()
    channel = channel_of(run.tokenizer) if confusions is None else confusions
    errors = EqualKinds(channel.num_symbols) if confusions is None else confusions
    confidences = parse_confidences(confidences) if isinstance(confidences, str) else confidences
    decoder = decoder or _default_decoder(run, label, confusions is not None)
    snr = _assumed_snr(run, decoder, snr, confusions)
    if not snr >= 0:
        raise ValueError(f"The SNR of a soft mask must be at least 0, not {snr}.")
    if not 0 <= decoder.threshold <= 1:
        raise ValueError(f"The threshold is a probability from 0 to 1, not {decoder.threshold}.")
    if run.tokenizer.slots is not None and not decoder.keeps_places:
        raise ValueError(
            "A text in slots is corrected in its slots, which already find lost and added "
            "characters: take one pass or a walk."
        )
    seen = normalise(text, run.tokenizer)
    read, unknown = read_tokens(run, seen)
    if not len(read):
        raise ValueError("There is no text to correct.")
    if run.lengths is not None and len(read) > run.text_length:
        raise ValueError(
            f"The text has {times(len(read), 'token')}, but the model knows sequences of at most "
            f"{run.text_length}."
        )
    is_unknown = torch.zeros(len(read), dtype=torch.bool)
    is_unknown[list(unknown)] = True
    # Any SNR but 0 says that something is known; what that is, learned errors say themselves.
    levels = torch.full(read.shape, snr if confusions is None else 1.0, dtype=torch.float64)
    if confidences is not None:
        levels = _levels(run, channel, len(read), confidences)
    levels = levels.masked_fill(is_unknown, 0.0).to(run.device)
    given, calls = read.to(run.device), 0
    if is_unknown.any():
        guess = _in_windows(run, channel, errors, given, levels, OnePass(0.0), label)
        given, calls = torch.where(is_unknown.to(run.device), guess.tokens, given), guess.calls
    decided = _in_windows(run, channel, errors, given, levels, decoder, label)
    tokens = decided.text().cpu()
    return Correction(
        run.tokenizer.decode(tokens),
        seen.text if seen.unknown else run.tokenizer.decode(read),
        _changes(run, seen, read, unknown, decided),
        snr,
        float(rate_at(torch.tensor(snr, dtype=torch.float64), channel.num_symbols)),
        decoder.threshold,
        calls + decided.calls,
        time.monotonic() - started_s,
        run.tokenizer.decode_bytes(tokens),
        seen.notes,
    )


def _default_decoder(run: Run, label: str | None, is_learned: bool) -> Decoder:
    """Return edits where a model prefers them, else one pass, with its threshold."""
    if prefers_edits(run):
        return LikelyEdits(EDIT_THRESHOLD, lengths=run.lengths_given(label))
    return OnePass(EDIT_THRESHOLD if is_learned else correction_defaults(run).threshold)


def _assumed_snr(
    run: Run, decoder: Decoder, snr: float | None, confusions: Confusions | None
) -> float:
    """Return the SNR that was given, that of the examples' error rate, or the default."""
    if confusions is not None:
        return snr_at(confusions.rate, confusions.num_symbols)
    if snr is not None:
        return snr
    return correction_defaults(run).snr if decoder.keeps_places else edit_snr(run)


def parse_confidences(text: str) -> list[float]:
    """Return numbers given as `0.9,1,0.3` or as a JSON list.

    Args:
        text: What a user gave.

    Returns:
        The numbers.

    Raises:
        ValueError: The text is not a list of numbers.
    """
    try:
        numbers = json.loads(text if text.lstrip().startswith("[") else f"[{text}]")
        return [float(number) for number in numbers]
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Confidences are numbers like 0.9,1,0.3 or a JSON list, not {text!r}."
        ) from error


def _levels(
    run: Run, channel: Channel, length: int, confidences: Sequence[float]
) -> Float[Tensor, " length"]:
    """Return the SNR of every position; a gap has the smaller SNR of its two neighbours."""
    places = _text_positions(run.tokenizer, length)
    if len(confidences) != len(places):
        raise ValueError(
            f"The text has {times(len(places), run.tokenizer.parts.name)} for the model, but you "
            f"gave {times(len(confidences), 'confidence')}; give one for each."
        )
    if not all(0 <= confidence <= 1 for confidence in confidences):
        raise ValueError("Confidences are probabilities from 0 to 1.")
    levels = torch.tensor([snr_at(1 - c, channel.num_symbols) for c in confidences]).double()
    positions, last = torch.arange(length), len(places) - 1
    before = torch.searchsorted(places, positions, right=True).sub(1).clamp_min(0)
    after = torch.searchsorted(places, positions).clamp_max(last)
    return torch.minimum(levels[before], levels[after])


def _in_windows(
    run: Run,
    channel: Channel,
    errors: Errors,
    read: Int[Tensor, " length"],
    levels: Float[Tensor, " length"],
    decoder: Decoder,
    label: str | None,
) -> Decision:
    """Decide every position in the window whose centre is nearest."""
    width = min(run.text_length, len(read))
    windows = Overlapping.of(len(read), width)
    places, owner, column = windows.places.to(read.device), windows.owner, windows.column
    is_asked = torch.zeros(places.shape, dtype=torch.bool)
    is_asked[owner, column] = True
    is_asked = is_asked.to(read.device)
    denoiser, codebook = run.denoiser_for(width, label), run.model.codebook
    parts = list[Decision]()
    for rows in torch.arange(len(places)).split(rows_at_once(width, run.tokenizer.vocabulary_size)):
        seen = places[rows]
        state = soft_mask(codebook, channel, read[seen], levels[seen])
        with torch.no_grad():
            reading = Reading(state, read[seen], is_asked[rows], errors)
            parts.append(decoder.decide(denoiser, reading))
    # The gap before a place belongs to its window, and that after the last to the last window.
    gap_owner = torch.cat([owner, owner[-1:]])
    gap_column = torch.cat([column, column[-1:] + 1])
    return Decision(
        windows.gather(torch.cat([part.tokens for part in parts])),
        windows.gather(torch.cat([part.probs for part in parts])),
        torch.cat([part.inserted for part in parts])[gap_owner, gap_column],
        torch.cat([part.inserted_probs for part in parts])[gap_owner, gap_column],
        sum(part.calls for part in parts),
    )


def read_tokens(run: Run, seen: NormalisedText) -> tuple[Int[Tensor, " length"], dict[int, str]]:
    """Return the tokens of a text, of which some parts may be unknown to the model.

    Args:
        run: The model and its tokenizer.
        seen: The text as read.

    Returns:
        Its tokens, token 0 for each unknown part, and these parts by the number of their token.

    Raises:
        ValueError: An unknown part is no token by itself.
    """
    tokenizer, text, end = run.tokenizer, "", 0
    for place, part in seen.unknown.items():
        text += seen.text[end:place] + tokenizer.decode([0])
        end = place + len(part)
    ids = torch.as_tensor(tokenizer.encode(text + seen.text[end:]), dtype=torch.long)
    if not seen.unknown:
        return ids, {}
    # In slots a gap has the place of the next character, which comes after it and so is kept.
    token_at = {int(place): n for n, place in enumerate(tokenizer.places(seen.text))}
    unknown = {token_at.get(place, len(ids)): part for place, part in seen.unknown.items()}
    if not all(n < len(ids) and ids[n] == 0 for n in unknown):
        # Only where an unknown part is a token by itself can that token be a blank.
        seen.known_only()
    return ids, unknown


def _text_positions(tokenizer: Tokenizer, length: int) -> Int[Tensor, " tokens"]:
    """Return which positions of a text as it was read hold its tokens: all but the gaps."""
    slots = tokenizer.slots
    return torch.arange(length) if slots is None else slots.text_positions(length)


def _changes(
    run: Run,
    seen: NormalisedText,
    read: Int[Tensor, " length"],
    unknown: Mapping[int, str],
    decided: Decision,
) -> tuple[Change, ...]:
    decode = run.tokenizer.decode
    # A character added after the last one has the position of the end of the input.
    typed = (*seen.places, seen.places[-1] + 1)
    places = run.tokenizer.places(seen.text)
    changes = []
    for gap, (token, probability) in enumerate(_rows(decided.inserted, decided.inserted_probs)):
        if token != UNKNOWN:
            place = typed[places[gap]] if gap < len(places) else typed[-1]
            changes.append((gap, Change(place, "", decode([token]), probability)))
    for n, (after, probability) in enumerate(_rows(decided.tokens, decided.probs)):
        before = int(read[n])
        if before != after or n in unknown:
            text = "" if after == UNKNOWN else decode([after])
            was = unknown.get(n, decode([before]))
            changes.append((n, Change(typed[places[n]], was, text, probability)))
    # Stable: what is inserted before a place comes before it.
    return tuple(change for _, change in sorted(changes, key=lambda pair: pair[0]))


def _rows(
    tokens: Int[Tensor, " places"], probs: Float[Tensor, " places"]
) -> Iterator[tuple[int, float]]:
    return zip(tokens.tolist(), probs.tolist(), strict=True)
