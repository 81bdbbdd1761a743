"""Bounding the probability of a text under a model."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from stochloc.core import ChainDeviation, Estimate, chain_deviation, line_integral
from stochloc.core.standard_errors import ratio_stderr
from stochloc.data import held_out_windows
from stochloc.data.texts import STANDARD_INPUT
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.counting import characters_in, labels_in, tokens_in, what_is_counted
from stochloc.tasks.own_text import choose_text, is_own_name, own_text
from stochloc.tasks.policies import FOLLOW_THE_PATH
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import WalkSettings
from stochloc.training.seeds import seeded_streams


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


def tokens_to_evaluate(run: Run, data: str | None, split: str | None) -> tuple[np.ndarray, str]:
    """Return the tokens to evaluate on, and a description of them.

    Args:
        run: Gives the tokenizer and the data the model was trained on.
        data: A file, a pipe, `-` or the name of a corpus; None for the run's own. A text whose
            tokens are those of the run's own text counts as that, whatever its name.
        split: "train", "valid", "test" or "all"; None for "test" of the run's own data and of
            corpora known by name, and for all of any other file.

    Returns:
        Tokens, and a description, which says so if a part is not one of the run's own text.

    Raises:
        ValueError: The text cannot be read, has characters the model has never seen, or has the
            name of the run's own text but has changed, so that it is not known what the model has
            seen of it.
    """
    corpus, is_own = (own_text(run), True) if data is None else choose_text(run, data)
    if not is_own and split != "all" and is_own_name(run, str(data)):
        raise ValueError(
            f"{data} has changed since {run.folder} was trained on it, so it is not known which "
            "part the model has not seen: restore it, or evaluate all of it, with stochloc eval "
            "and --split all."
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
        The estimate, and the number of tokens and characters it covers.

    Raises:
        ValueError: The text is shorter than a window, or a setting is out of range.
    """
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
    windows = held_out_windows(tokens, run.length, evaluation.num_sequences or None)
    walk = settings.resolve(run, evaluation.continuous)
    parts, deviations = [], []
    batch = rows_at_once(run.length, run.tokenizer.vocabulary_size)
    for begin in range(0, len(windows), batch):
        rows = windows[begin : begin + batch].to(run.device)
        names = ((begin + row,) for row in range(len(rows)))
        streams = seeded_streams(run.device, evaluation.seed, names)
        known = labels_in(run.tokenizer, rows)
        if evaluation.continuous:
            part = line_integral(run.model, rows, walk.path, walk.num_steps, streams, known)
        else:
            part = walk.bound(run.model, rows, streams, known)
        parts.append(part)
        if evaluation.num_orders is not None:
            # After the bound, so that the streams give it the same noise with and without.
            orders = evaluation.num_orders
            deviations.append(chain_deviation(run.model, rows, orders, streams, known))
    return Evaluated(
        evaluation,
        Estimate.join(parts),
        ChainDeviation.join(deviations) if deviations else None,
        tokens_in(run.tokenizer, windows),
        characters_in(run.tokenizer, windows),
        what_is_counted(run.tokenizer),
        math.log2(run.tokenizer.vocabulary_size),
    )


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The result of an evaluation.

    Attributes:
        evaluation: The settings.
        estimate: Nats of every window and its tokens, in the order of the text.
        deviation: What the chain rule gives along several orders, if that was asked for.
        tokens: Tokens of every window that are scored.
        characters: Characters of text in every window.
        counted: What "per token" means, in words.
        uniform_bits: Bits per token of guessing, the logarithm of the vocabulary's size.
    """

    evaluation: Evaluation
    estimate: Estimate
    deviation: ChainDeviation | None
    tokens: Int[Tensor, " windows"]
    characters: Int[Tensor, " windows"]
    counted: str
    uniform_bits: float

    @property
    def bits_per_token(self) -> float:
        """The bound divided by the number of scored tokens."""
        return self._rate(self.tokens)[0]

    @property
    def is_empty(self) -> bool:
        """Whether uniform guessing costs less, so that the bound says nothing about the model."""
        return self.bits_per_token > self.uniform_bits

    def to_dict(self) -> dict[str, Any]:
        """Return the figures in nats, bits per token and bits per character.

        Returns:
            JSON values; standard errors are those of ratios over blocks of neighbouring windows
            (`core.standard_errors`), None for a single sequence. `path` is None under a policy that
            follows none. `is_empty` is true if uniform guessing costs less than the bound.
            `is_exact` is true if the bound is the sampler's own `-log P`. `chain_rule` is None if
            it was not asked for.
        """
        estimate, evaluation, walk = self.estimate, self.evaluation, self.evaluation.walk
        sequences, length = estimate.token_nats.shape
        bits_per_token, token_stderr = self._rate(self.tokens)
        bits_per_character, character_stderr = self._rate(self.characters)
        bits_per_sequence, sequence_stderr = self._rate(torch.ones(sequences))
        return {
            "bits_per_token": bits_per_token,
            "stderr": token_stderr,
            "bits_per_character": bits_per_character,
            "bits_per_character_stderr": character_stderr,
            "nats_per_sequence": bits_per_sequence * math.log(2),
            "nats_per_sequence_stderr": sequence_stderr and sequence_stderr * math.log(2),
            "sequences": sequences,
            "length": length,
            "tokens": int(self.tokens.sum()),
            "characters": int(self.characters.sum()),
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
