"""Drawing text from a model: a free walk from a prompt to text."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
    Forgetful,
    Guided,
    Masked,
    Path,
    Step,
    Tempered,
    Transition,
    finish,
    localize,
    start,
)
from stochloc.data import LabelledTokenizer, Tokenizer
from stochloc.data.labels import PERIOD
from stochloc.data.legible import legible
from stochloc.tasks.policies import FOLLOW_THE_PATH, PolicyChoice
from stochloc.tasks.runs import Run
from stochloc.training.seeds import seeded_streams

# Beyond any machine: each token takes at least a row of the vocabulary.
MOST_TOKENS = 10**8


@dataclass(frozen=True)
class Generation:
    """Texts drawn from a model.

    Attributes:
        samples: The texts.
        denoiser_calls: Calls of the denoiser, each about all texts.
        seconds: Time the walk took.
        snr_received: Finite SNR handed out to every token of every text before it was decided.
    """

    samples: list[str]
    denoiser_calls: int
    seconds: float
    snr_received: list[list[float]]


@dataclass(frozen=True)
class Walk:
    """How to walk.

    Attributes:
        path: The path to follow.
        transition: How to take a step.
        num_steps: Steps wanted.
        temperature: Sharpens (below 1) or flattens (above 1) every posterior; 1 is exact.
        policy: Hands out SNR; by default it follows the path.
        guidance: How far to lean towards what prompt and label change: 1 follows them, more
            exaggerates them (`core.guidance`).
    """

    path: Path
    transition: Transition
    num_steps: int
    temperature: float = 1.0
    policy: PolicyChoice = FOLLOW_THE_PATH
    guidance: float = 1.0


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
    text = legible(prompt, tokenizer).known_only()
    ids = torch.from_numpy(np.asarray(tokenizer.encode(text), dtype=np.int64))
    if len(ids) > length:
        raise ValueError(f"The prompt has {len(ids)} tokens, more than the length {length}.")
    known = torch.full((num, length), UNKNOWN)
    known[:, : len(ids)] = ids
    return known


def with_labels(
    tokenizer: Tokenizer, known: Int[Tensor, "num length"], label: str
) -> Int[Tensor, "num longer"]:
    """Return sequences that carry a label where training texts do.

    Args:
        tokenizer: How text becomes tokens; it must know classes.
        known: Known tokens of the text, `-1` elsewhere.
        label: Name of the class.

    Returns:
        Known tokens with the label's before every 63 of them.

    Raises:
        ValueError: The tokenizer knows no classes, or not this one.
    """
    if not isinstance(tokenizer, LabelledTokenizer):
        raise ValueError(
            "The model was trained without classes; train one with --data NAME=FILE,NAME=FILE."
        )
    token = torch.full((len(known), 1), tokenizer.label_token(label))
    pieces = known.split(PERIOD - 1, dim=-1)
    return torch.cat([part for piece in pieces for part in (token, piece)], dim=-1)


def generate(
    run: Run,
    num: int,
    length: int,
    walk: Walk,
    prompt: str = "",
    seed: int = 0,
    trace: Callable[[dict[str, Any]], None] | None = None,
    label: str | None = None,
) -> Generation:
    """Draw texts from a model; the same seed gives the same texts, each whatever their number.

    Args:
        run: The model and its tokenizer.
        num: Number of texts, at least 1.
        length: Tokens per text, at least 1.
        walk: How to walk.
        prompt: Text that every sample begins with.
        seed: Seed of all randomness.
        trace: Called after every step with its number, the share of known tokens, the mean SNR of
            the others and the most likely texts.
        label: Class of the texts, for a model trained with classes; the length is that of the text
            without labels. None leaves the class open.

    Returns:
        The texts and what they cost.

    Raises:
        ValueError: A number is not positive or far too large, the prompt does not fit, there is no
            such class, or there is nothing to be guided by.
    """
    for name, value in (("number of samples", num), ("length", length)):
        if value < 1:
            raise ValueError(f"The {name} must be positive, not {value}.")
    if num * length > MOST_TOKENS:
        raise ValueError(
            f"{num} texts of {length} tokens are more than one batch can hold; ask for fewer."
        )
    if seed < 0:
        raise ValueError(f"The seed must be at least 0, not {seed}.")
    known = prompt_tokens(run.tokenizer, prompt, num, length)
    if label is not None:
        known = with_labels(run.tokenizer, known, label)
    known = known.to(run.device)
    denoiser: Denoiser = Tempered(run.model, walk.temperature)
    if walk.guidance != 1:
        if not bool((known != UNKNOWN).any()):
            raise ValueError(
                "Guidance needs a condition: a prompt, or a label of a model trained with classes."
            )
        denoiser = Guided(denoiser, Forgetful(denoiser, known != UNKNOWN), walk.guidance)
    policy, denoiser = walk.policy.apply(walk.path, denoiser)
    state = start(run.model.codebook, num, known.shape[1], known)
    streams = seeded_streams(run.device, seed, ((text,) for text in range(num)))
    started_s = time.monotonic()
    with torch.no_grad():
        steps = localize(denoiser, state, policy, walk.transition, walk.num_steps, streams)
        drawn = finish(state, steps if trace is None else _traced(steps, run.tokenizer, trace))
    texts = [run.tokenizer.decode(row) for row in drawn.tokens.cpu()]
    seconds = time.monotonic() - started_s
    received = [[round(snr, 4) for snr in row] for row in drawn.snr_received.tolist()]
    return Generation(texts, drawn.denoiser_calls, seconds, received)


def sample_line(model: Denoiser, tokenizer: Tokenizer, length: int, seed: int) -> str:
    """Return one short text on one line, for the progress of a training run.

    Args:
        model: The denoiser.
        tokenizer: How its tokens become text.
        length: Tokens to draw.
        seed: Seed of the draw.

    Returns:
        The text, line breaks shown as spaces.
    """
    state = start(model.codebook, 1, length)
    generator = torch.Generator(state.z.device).manual_seed(seed)
    steps = list(localize(model, state, Follow(Masked()), Ancestral(), min(length, 64), generator))
    return " ".join(tokenizer.decode(steps[-1].state.known[0].cpu()).split())


def _traced(
    steps: Iterable[Step], tokenizer: Tokenizer, trace: Callable[[dict[str, Any]], None]
) -> Iterator[Step]:
    for step in steps:
        trace(_describe(step, tokenizer))
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
