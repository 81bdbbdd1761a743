"""How probable every token of a text is, given all others: where a reader would look for errors.

A two-sided model answers in one call for each window, without looking at a token's own place:

    P(s_i | s_-i),      every other token taken as certain.

Any other network looks at the token itself, so it is shown the text as the channel of corrections
has it (`tasks.correct.channels`), and what is told is `P(x_i = s_i | s)` at the error rate of that
channel: a token that fits nothing around it keeps some of its own evidence.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stochloc.core import UNKNOWN, Denoiser, Posterior, between, leave_one_out, start
from stochloc.data.normalisation import normalise
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.correct.channels import channel_of, soft_mask
from stochloc.tasks.correct.correct import read_tokens
from stochloc.tasks.likely import likeliest
from stochloc.tasks.overlapping import Overlapping
from stochloc.tasks.runs import Run

NUM_LIKELY = 5


@dataclass(frozen=True)
class Doubt:
    """A token of a text and its alternatives.

    Attributes:
        position: Index of its first character in the input, from 0.
        text: The token as read.
        probability: Its probability; 0 of what the model does not know.
        likely: The likeliest tokens of the place and their probabilities, five at most.
    """

    position: int
    text: str
    probability: float
    likely: tuple[tuple[str, float], ...]


@torch.no_grad()
def doubts(run: Run, text: str, snr: float, label: str | None = None) -> tuple[Doubt, ...]:
    """Return how probable every token of a text is.

    Args:
        run: The model and its tokenizer.
        text: The text as read; of a model of sequences, one sequence.
        snr: SNR of the soft mask, finite; used of a model that looks at the token itself.
        label: Class of the text, for a model with classes; None leaves it open.

    Returns:
        All tokens in their order, without the gaps of a text in slots. One call for each batch of
        windows; each token is judged in the window whose centre is nearest.

    Raises:
        ValueError: The text has a part that the model cannot read at all, or there is no such
            class.
    """
    seen = normalise(text, run.tokenizer)
    read, unknown = read_tokens(run, seen)
    if not len(read):
        return ()
    is_unknown = torch.zeros(len(read), dtype=torch.bool)
    is_unknown[list(unknown)] = True
    width = min(run.text_length, len(read))
    denoiser = run.denoiser_for(width, label)
    values, likely = _judged(run, denoiser, width, read, is_unknown, snr)
    decode, slots = run.tokenizer.decode, run.tokenizer.slots
    shown = range(len(read)) if slots is None else slots.text_positions(len(read)).tolist()
    places = run.tokenizer.places(seen.text)
    return tuple(
        Doubt(
            seen.places[int(places[n])],
            unknown.get(n, decode([int(read[n])])),
            0.0 if n in unknown else values[n],
            tuple((decode([token]), p) for token, p in likely[n] if p > 0),
        )
        for n in shown
    )


def _judged(
    run: Run,
    denoiser: Denoiser,
    width: int,
    read: Int[Tensor, " length"],
    is_unknown: Bool[Tensor, " length"],
    snr: float,
) -> tuple[list[float], list[list[tuple[int, float]]]]:
    """Return the probability of every token and the likeliest ones, from overlapping windows."""
    windows = Overlapping.of(len(read), width)
    size = run.tokenizer.vocabulary_size
    own, tokens, probs = list[Tensor](), list[Tensor](), list[Tensor]()
    for rows in windows.places.split(rows_at_once(width, size)):
        posterior = _posterior(run, denoiser, read[rows], is_unknown[rows], snr)
        best, which = likeliest(posterior, NUM_LIKELY)
        own.append(posterior.log_prob(read[rows].to(run.device)).exp().cpu())
        tokens.append(which.cpu())
        probs.append(best.cpu())
    values = windows.gather(torch.cat(own)).tolist()
    likely = (windows.gather(torch.cat(parts)).tolist() for parts in (tokens, probs))
    pairs = zip(*likely, strict=True)
    return values, [list(zip(*pair, strict=True)) for pair in pairs]


def _posterior(
    run: Run,
    denoiser: Denoiser,
    tokens: Int[Tensor, "rows length"],
    is_unknown: Bool[Tensor, "rows length"],
    snr: float,
) -> Posterior:
    tokens, is_unknown = tokens.to(run.device), is_unknown.to(run.device)
    if between(denoiser) is not None:
        known = tokens.masked_fill(is_unknown, UNKNOWN)
        rows, length = known.shape
        return leave_one_out(denoiser, start(denoiser.codebook, rows, length, known))
    levels = torch.full(tokens.shape, snr, device=run.device).masked_fill(is_unknown, 0.0)
    return denoiser(soft_mask(run.model.codebook, channel_of(run.tokenizer), tokens, levels))
