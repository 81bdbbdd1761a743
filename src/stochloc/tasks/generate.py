"""Drawing text from a model by a free walk that starts with the prompt known."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

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
from stochloc.data.lengths import Lengths
from stochloc.data.normalisation import normalise
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.framed import framed
from stochloc.tasks.generation import Generation
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import Walk
from stochloc.terminal import times
from stochloc.training.seeds import seeded_streams

# More than any machine can draw in reasonable time.
MOST_TOKENS = 10**8
Trace = Callable[[dict[str, Any]], None]


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
        raise ValueError(
            f"The prompt has {times(len(ids), 'token')}, more than the length {length}."
        )
    known = torch.full((num, length), UNKNOWN)
    known[:, : len(ids)] = ids
    return known


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
        label: Class of the texts, for a model trained with classes; None leaves it open.

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
        trace: Called after every step of a batch with its number, the numbers of the batch's texts,
            the share of known tokens, the mean SNR of the others and the most likely texts.
        label: Class of the texts; None leaves it open.

    Yields:
        The texts of `generate` in order, a batch at a time (`tasks.batches`).

    Raises:
        ValueError: A number is not positive or far too large, the prompt does not fit, there is no
            such class, or guidance has neither prompt nor label.
    """
    check_request(num, length, seed)
    for texts in batches_of(range(num), length, run):
        yield draw_batch(run, texts, length, walk, prompt, seed, trace, label)


def check_request(num: int, length: int, seed: int) -> None:
    """Refuse numbers that make no sense, or more than can be drawn.

    Args:
        num: Number of texts.
        length: The most tokens of each.
        seed: Seed of all randomness.

    Raises:
        ValueError: A number is not positive, or far too large.
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


def batches_of(texts: Sequence[int], length: int, run: Run) -> Iterator[Sequence[int]]:
    """Yield the numbers of texts of equal length, as many at a time as fit into a batch.

    Args:
        texts: Their numbers.
        length: Tokens of each.
        run: The model that will draw them.

    Yields:
        The numbers of each batch.
    """
    size = rows_at_once(length, run.tokenizer.vocabulary_size)
    return (texts[begin : begin + size] for begin in range(0, len(texts), size))


def draw_batch(
    run: Run,
    texts: Sequence[int],
    length: int,
    walk: Walk,
    prompt: str = "",
    seed: int = 0,
    trace: Trace | None = None,
    label: str | None = None,
) -> Generation:
    """Draw the texts with given numbers in one batch.

    Args:
        run: The model and its tokenizer.
        texts: The numbers, which name the random streams, at least one.
        length: Tokens per text, at least 1.
        walk: How to walk.
        prompt: Text that every sample begins with.
        seed: Seed of all randomness.
        trace: Called after every step; see `generate_batches`.
        label: Class of the texts; None leaves it open.

    Returns:
        The texts, the same in any batch.

    Raises:
        ValueError: The prompt does not fit, there is no such class, or guidance has neither prompt
            nor label.
    """
    known = prompt_tokens(run.tokenizer, prompt, len(texts), length).to(run.device)
    if walk.guidance != 1 and label is None and not bool((known != UNKNOWN).any()):
        raise ValueError(
            "Guidance needs a condition: a prompt, or a label of a model trained with classes."
        )
    denoiser = Tempered(run.denoiser(label), walk.temperature)
    if walk.guidance != 1:
        away = Tempered(run.denoiser(), walk.temperature)
        denoiser = Guided(denoiser, Unconditional(away, known != UNKNOWN), walk.guidance)
    state = start(run.model.codebook, len(texts), known.shape[1], known)
    streams = seeded_streams(run.device, seed, ((text,) for text in texts))
    started_s = time.monotonic()
    if trace is None:
        drawn = walk.draw(denoiser, state, streams)
    else:
        # Who looks on wants to be told of all tokens after every step.
        with torch.no_grad():
            steps = walk.steps(denoiser, state, streams)
            drawn = finish(state, _traced(steps, texts, run.tokenizer, trace))
    samples = [run.tokenizer.decode(row) for row in drawn.tokens.cpu()]
    seconds = time.monotonic() - started_s
    received = [[round(snr, 4) for snr in row] for row in drawn.snr_received.tolist()]
    lengths = [length] * len(texts)
    return Generation(samples, drawn.denoiser_calls, seconds, received, lengths)


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
    return _one_line(framed(model, tokenizer), tokenizer, length, _generator(model, seed))


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
    return _one_line(framed(model, tokenizer), tokenizer, length, generator)


def _generator(model: Denoiser, seed: int) -> torch.Generator:
    return torch.Generator(start(model.codebook, 1, 1).z.device).manual_seed(seed)


def _one_line(
    denoiser: Denoiser, tokenizer: Tokenizer, length: int, generator: torch.Generator
) -> str:
    state, steps = start(denoiser.codebook, 1, length), min(length, 64)
    *_, last = localize(denoiser, state, Follow(Masked()), Ancestral(), steps, generator)
    return " ".join(tokenizer.decode(last.state.known[0].cpu()).split())


def _traced(
    steps: Iterable[Step], texts: Sequence[int], tokenizer: Tokenizer, trace: Trace
) -> Iterator[Step]:
    numbers = {"first_text": texts[0], "numbers": list(texts)}
    for step in steps:
        trace({**numbers, **_describe(step, tokenizer)})
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
