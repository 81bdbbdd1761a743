"""Drawing text from a model by a free walk that starts with the prompt known."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Denoiser,
    Follow,
    Guided,
    Masked,
    Step,
    Tempered,
    Unconditional,
    finish,
    localize,
    start,
)
from stochloc.data import Tokenizer
from stochloc.data.labels import PERIOD, label_token
from stochloc.data.lengths import Lengths
from stochloc.data.normalisation import normalise
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import Walk
from stochloc.training.seeds import seeded_streams

# More than any machine can draw in reasonable time.
MOST_TOKENS = 10**8
Trace = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Generation:
    """Texts drawn from a model.

    Attributes:
        samples: The texts.
        denoiser_calls: Denoiser calls per text, the largest number of any batch: one call serves
            all texts of a batch.
        seconds: Time the walks took.
        snr_received: Finite SNR allocated to every token of every text before it was decided.
    """

    samples: list[str]
    denoiser_calls: int
    seconds: float
    snr_received: list[list[float]]

    @classmethod
    def join(cls, parts: Iterable["Generation"]) -> "Generation":
        """Return the texts of several batches together.

        Args:
            parts: The batches in order, at least one.

        Returns:
            All texts; the largest number of calls, and the sum of the times.
        """
        batches = list(parts)
        return cls(
            [text for batch in batches for text in batch.samples],
            max(batch.denoiser_calls for batch in batches),
            sum(batch.seconds for batch in batches),
            [row for batch in batches for row in batch.snr_received],
        )


def prompt_tokens(
    tokenizer: Tokenizer, prompt: str, num: int, length: int
) -> Int[Tensor, "num length"]:
    """Return sequences whose first tokens are a prompt, `-1` elsewhere.

    Args:
        tokenizer: How text becomes tokens.
        prompt: The text to begin with; may be empty.
        num: Number of sequences.
        length: Tokens per sequence.

    Returns:
        Known tokens, as `core.start` takes them.

    Raises:
        ValueError: The prompt has characters the model has never seen, or is too long.
    """
    text = normalise(prompt, tokenizer).known_only()
    ids = torch.from_numpy(np.asarray(tokenizer.encode(text), dtype=np.int64))
    if len(ids) > length:
        raise ValueError(f"The prompt has {len(ids)} tokens, more than the length {length}.")
    known = torch.full((num, length), UNKNOWN)
    known[:, : len(ids)] = ids
    return known


def with_labels(
    tokenizer: Tokenizer, known: Int[Tensor, "num length"], label: str
) -> Int[Tensor, "num longer"]:
    """Return sequences with labels at the positions they have in training texts.

    Args:
        tokenizer: How text becomes tokens; it must have classes.
        known: Known tokens of the text, `-1` elsewhere.
        label: Name of the class.

    Returns:
        Known tokens with a label before every 63 of them.

    Raises:
        ValueError: The tokenizer has no classes, or not this one.
    """
    if not tokenizer.labels:
        raise ValueError(
            "The model was trained without classes; train one with --data NAME=FILE,NAME=FILE."
        )
    token = torch.full((len(known), 1), label_token(tokenizer, label))
    pieces = known.split(PERIOD - 1, dim=-1)
    return torch.cat([part for piece in pieces for part in (token, piece)], dim=-1)


def generate(
    run: Run,
    num: int,
    length: int,
    walk: Walk,
    prompt: str = "",
    seed: int = 0,
    trace: Trace | None = None,
    label: str | None = None,
) -> Generation:
    """Draw texts from a model; the same seed gives the same texts, however many are drawn.

    Args:
        run: The model and its tokenizer.
        num: Number of texts, at least 1.
        length: Tokens per text, at least 1.
        walk: How to walk.
        prompt: Text that every sample begins with.
        seed: Seed of all randomness.
        trace: Called after every step; see `generate_batches`.
        label: Class of the texts, for a model trained with classes; the length does not count
            labels. None leaves the class unknown.

    Returns:
        The texts, and their number of denoiser calls and time.

    Raises:
        ValueError: A number is not positive or far too large, the prompt does not fit, there is no
            such class, or guidance has neither prompt nor label.
    """
    batches = generate_batches(run, num, length, walk, prompt, seed, trace, label)
    return Generation.join(batches)


def generate_batches(
    run: Run,
    num: int,
    length: int,
    walk: Walk,
    prompt: str = "",
    seed: int = 0,
    trace: Trace | None = None,
    label: str | None = None,
) -> Iterator[Generation]:
    """Draw texts batch by batch, so that the memory needed does not grow with their number.

    Args:
        run: The model and its tokenizer.
        num: Number of texts, at least 1.
        length: Tokens per text, at least 1.
        walk: How to walk.
        prompt: Text that every sample begins with.
        seed: Seed of all randomness.
        trace: Called after every step of a batch with its number, the number of the batch's first
            text, the share of known tokens, the mean SNR of the others and the most likely texts.
        label: Class of the texts; None leaves it unknown.

    Yields:
        The texts of `generate` in order, a batch at a time (`tasks.batches`).

    Raises:
        ValueError: A number is not positive or far too large, the prompt does not fit, there is no
            such class, or guidance has neither prompt nor label.
    """
    for name, value in (("number of samples", num), ("length", length)):
        if value < 1:
            raise ValueError(f"The {name} must be positive, not {value}.")
    if num * length > MOST_TOKENS:
        raise ValueError(
            f"{num} texts of {length} tokens are more than {MOST_TOKENS:,} tokens; ask for fewer."
        )
    if seed < 0:
        raise ValueError(f"The seed must be at least 0, not {seed}.")
    known = prompt_tokens(run.tokenizer, prompt, 1, length)
    if label is not None:
        known = with_labels(run.tokenizer, known, label)
    if walk.guidance != 1 and not bool((known != UNKNOWN).any()):
        raise ValueError(
            "Guidance needs a condition: a prompt, or a label of a model trained with classes."
        )
    size = rows_at_once(known.shape[1], run.tokenizer.vocabulary_size)
    for begin in range(0, num, size):
        texts = range(begin, min(begin + size, num))
        yield _draw(run, known.to(run.device), texts, walk, seed, trace)


def _draw(
    run: Run,
    known: Int[Tensor, "1 length"],
    texts: range,
    walk: Walk,
    seed: int,
    trace: Trace | None,
) -> Generation:
    """Draw the texts with these numbers in one batch."""
    known = known.expand(len(texts), -1)
    denoiser: Denoiser = Tempered(run.model, walk.temperature)
    if walk.guidance != 1:
        denoiser = Guided(denoiser, Unconditional(denoiser, known != UNKNOWN), walk.guidance)
    state = start(run.model.codebook, len(texts), known.shape[1], known)
    streams = seeded_streams(run.device, seed, ((text,) for text in texts))
    started_s = time.monotonic()
    if trace is None:
        drawn = walk.draw(denoiser, state, streams)
    else:
        # Who looks on wants to be told of all tokens after every step.
        with torch.no_grad():
            steps = walk.steps(denoiser, state, streams)
            drawn = finish(state, _traced(steps, texts.start, run.tokenizer, trace))
    samples = [run.tokenizer.decode(row) for row in drawn.tokens.cpu()]
    seconds = time.monotonic() - started_s
    received = [[round(snr, 4) for snr in row] for row in drawn.snr_received.tolist()]
    return Generation(samples, drawn.denoiser_calls, seconds, received)


def sample_line(model: Denoiser, tokenizer: Tokenizer, length: int, seed: int) -> str:
    """Return one short text on one line, to be shown during training.

    Args:
        model: The denoiser.
        tokenizer: How its tokens become text.
        length: Tokens to draw.
        seed: Seed of the draw.

    Returns:
        The text, line breaks shown as spaces.
    """
    known = torch.full((1, length), UNKNOWN)
    return _one_line(model, tokenizer, known, _generator(model, seed))


def sequence_line(model: Denoiser, tokenizer: Tokenizer, lengths: Lengths, seed: int) -> str:
    """Return one whole sequence on one line, to be shown during training.

    Args:
        model: The denoiser.
        tokenizer: How its tokens become text; it has a boundary.
        lengths: The distribution from which the length is drawn.
        seed: Seed of the draw.

    Returns:
        The text, line breaks shown as spaces.
    """
    generator = _generator(model, seed)
    length = int(lengths.sample(1, generator))
    known = framed(torch.full((1, length), UNKNOWN), tokenizer)
    return _one_line(model, tokenizer, known, generator)


def framed(texts: Int[Tensor, "num length"], tokenizer: Tokenizer) -> Int[Tensor, "num longer"]:
    """Return tokens of text with a boundary before and after each row.

    Args:
        texts: Tokens, or -1 where they are not known.
        tokenizer: Has the boundary.

    Returns:
        Sequences as the model sees them.
    """
    assert tokenizer.boundary is not None
    return F.pad(texts, (1, 1), value=tokenizer.boundary)


def _generator(model: Denoiser, seed: int) -> torch.Generator:
    return torch.Generator(start(model.codebook, 1, 1).z.device).manual_seed(seed)


def _one_line(
    model: Denoiser,
    tokenizer: Tokenizer,
    known: Int[Tensor, "1 length"],
    generator: torch.Generator,
) -> str:
    state = start(model.codebook, 1, known.shape[1], known.to(generator.device))
    steps = min(int((known == UNKNOWN).sum()), 64)
    *_, last = localize(model, state, Follow(Masked()), Ancestral(), steps, generator)
    return " ".join(tokenizer.decode(last.state.known[0].cpu()).split())


def _traced(
    steps: Iterable[Step], first_text: int, tokenizer: Tokenizer, trace: Trace
) -> Iterator[Step]:
    for step in steps:
        trace({"first_text": first_text, **_describe(step, tokenizer)})
        yield step


def _describe(step: Step, tokenizer: Tokenizer) -> dict[str, Any]:
    state = step.state
    uncertain = state.snr[~state.is_known]
    likely = torch.where(state.is_known, state.known, step.posterior.mode)
    return {
        "step": step.index + 1,
        "known": float(state.is_known.double().mean()),
        "snr": float(uncertain.mean()) if len(uncertain) else None,
        "texts": [tokenizer.decode(row) for row in likely.cpu()],
    }
