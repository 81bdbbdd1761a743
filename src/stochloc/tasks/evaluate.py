"""Bounding the probability of a text under a model."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from stochloc.core import UNKNOWN, Estimate, bound, line_integral
from stochloc.data import LabelledTokenizer, Tokenizer, held_out_windows
from stochloc.data.texts import STANDARD_INPUT
from stochloc.tasks.own_text import choose_text, is_own_name, own_text
from stochloc.tasks.policies import FOLLOW_THE_PATH, PolicyChoice
from stochloc.tasks.runs import Run
from stochloc.tasks.tuned import path_for
from stochloc.tasks.walks import named_transition
from stochloc.training.seeds import seeded_streams

BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class Evaluation:
    """How to bound.

    Attributes:
        path: Name of the path.
        transition: Name of the transition; without meaning for a line integral.
        num_steps: Steps of the walk; for a line integral, times drawn per sequence.
        continuous: Whether to take the line integral instead of the finite walk.
        num_sequences: Windows of text, evenly spaced; 0 for all there are.
        seed: Seed of all randomness.
        policy: Hands out SNR in a walk; by default it follows the path.
    """

    path: str = "masked"
    transition: str = "ancestral"
    num_steps: int = 64
    continuous: bool = False
    num_sequences: int = 128
    seed: int = 0
    policy: PolicyChoice = FOLLOW_THE_PATH

    @property
    def estimator(self) -> str:
        """Which estimator this is, in words."""
        if self.continuous:
            return "line integral (paper eq. 13), a bound on average over the text"
        policy = "" if self.policy == FOLLOW_THE_PATH else f" with the policy {self.policy.name}"
        return (
            f"guided walk, a bound for the {self.num_steps}-step {self.transition} sampler{policy}"
        )


def tokens_to_evaluate(run: Run, data: str | None, split: str | None) -> tuple[np.ndarray, str]:
    """Return the tokens to evaluate on, and in words which they are.

    Args:
        run: Gives the tokenizer and the data the model was trained on.
        data: A file, a pipe, `-` or the name of a corpus; None for the run's own. A text with the
            tokens of the run's own is the run's own, whatever it is called.
        split: "train", "valid", "test" or "all"; None for "test" of the run's own data and of
            corpora known by name, and for all of any other file.

    Returns:
        Tokens, and a description, which says so if a part is not one of the run's own text.

    Raises:
        ValueError: The text cannot be read, has characters the model has never seen, or is called
            as the run's own and has changed, so that nobody knows what the model has seen of it.
    """
    corpus, is_own = (own_text(run), True) if data is None else choose_text(run, data)
    if not is_own and split != "all" and is_own_name(run, str(data)):
        raise ValueError(
            f"{data} is not as it was when {run.folder} was trained on it, so which part the model "
            "has not seen is not known: restore it, or take all of it with --split all."
        )
    is_whole = not is_own and (Path(str(data)).exists() or str(data) == STANDARD_INPUT)
    part = split or ("all" if is_whole else "test")
    parts = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    if part == "all":
        return np.concatenate(list(parts.values())), f"all of {corpus.source}"
    if part == "test" and not len(corpus.test):
        part = "valid"
    strange = "" if is_own else ", which is not the text of the run"
    return parts[part], f"the {part} part of {corpus.name}{strange}"


def evaluate(run: Run, tokens: np.ndarray, evaluation: Evaluation) -> "Evaluated":
    """Bound `-log P` of windows of a text.

    Args:
        run: The model.
        tokens: The text, 1-D.
        evaluation: How to bound.

    Returns:
        The estimate and how many characters it is about.

    Raises:
        ValueError: The text is shorter than a window, or a setting is out of range.
    """
    if evaluation.num_steps < 1 or evaluation.num_sequences < 0 or evaluation.seed < 0:
        raise ValueError(
            "An evaluation needs at least one step, and a number of sequences and a seed of at "
            f"least 0, not {evaluation.num_steps}, {evaluation.num_sequences}, {evaluation.seed}."
        )
    if evaluation.continuous and evaluation.policy != FOLLOW_THE_PATH:
        raise ValueError("A line integral follows a path; leave out the policy, or --continuous.")
    windows = held_out_windows(tokens, run.length, evaluation.num_sequences or None)
    path = path_for(
        run, evaluation.path, evaluation.transition, evaluation.num_steps, evaluation.continuous
    )
    transition = named_transition(evaluation.transition)
    policy, denoiser = evaluation.policy.apply(path, run.model)
    parts, batch = [], max(1, BATCH_TOKENS // run.length)
    for begin in range(0, len(windows), batch):
        rows = windows[begin : begin + batch].to(run.device)
        names = ((begin + row,) for row in range(len(rows)))
        streams = seeded_streams(run.device, evaluation.seed, names)
        known = labels_in(run.tokenizer, rows)
        if evaluation.continuous:
            part = line_integral(run.model, rows, path, evaluation.num_steps, streams, known)
        else:
            part = bound(denoiser, rows, policy, transition, evaluation.num_steps, streams, known)
        parts.append(part)
    return Evaluated(evaluation, Estimate.join(parts), count_characters(run.tokenizer, windows))


def count_characters(tokenizer: Tokenizer, windows: Int[Tensor, "batch length"]) -> int:
    """Return how many characters of text windows of tokens hold together.

    Args:
        tokenizer: How the tokens become text.
        windows: Windows of a text.

    Returns:
        The number; a character cut by a window's start is counted in the window it starts in.
    """
    return sum(len(tokenizer.decode(row).lstrip("\ufffd")) for row in windows)


def labels_in(
    tokenizer: Tokenizer, rows: Int[Tensor, "batch length"]
) -> Int[Tensor, "batch length"] | None:
    """Return the labels among the tokens: they are given, not scored, so a bound is of `P(x|y)`.

    Args:
        tokenizer: Knows which tokens are labels.
        rows: Windows of a text.

    Returns:
        The label where there is one, `-1` elsewhere; None if the tokenizer knows no classes.
    """
    if not isinstance(tokenizer, LabelledTokenizer):
        return None
    return rows.masked_fill(rows < tokenizer.inner.vocabulary_size, UNKNOWN)


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation.

    Attributes:
        evaluation: How it was made.
        estimate: Nats of every window and its tokens.
        characters: Characters of text in all windows together.
    """

    evaluation: Evaluation
    estimate: Estimate
    characters: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures in nats, bits per token and bits per character.

        Returns:
            JSON values; standard errors are None for a single sequence.
        """
        estimate, evaluation = self.estimate, self.evaluation
        sequences, length = estimate.token_nats.shape
        stderr = estimate.stderr if sequences > 1 else None
        per_token = 1 / (length * math.log(2))
        per_character = sequences / (self.characters * math.log(2))
        return {
            "bits_per_token": estimate.mean * per_token,
            "stderr": stderr and stderr * per_token,
            "bits_per_character": estimate.mean * per_character,
            "bits_per_character_stderr": stderr and stderr * per_character,
            "nats_per_sequence": estimate.mean,
            "nats_per_sequence_stderr": stderr,
            "sequences": sequences,
            "length": length,
            "path": evaluation.path,
            "policy": evaluation.policy.name,
            "transition": None if evaluation.continuous else evaluation.transition,
            "steps": evaluation.num_steps,
            "estimator": evaluation.estimator,
            "denoiser_calls": estimate.denoiser_calls,
            "seed": evaluation.seed,
        }
