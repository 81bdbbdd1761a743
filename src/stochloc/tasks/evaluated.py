"""The result of an evaluation, with the settings it was made by."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import ChainDeviation, Estimate
from stochloc.core.standard_errors import ratio_stderr
from stochloc.tasks.policies import FOLLOW_THE_PATH
from stochloc.tasks.walks import WalkSettings


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
        label: The class of the text, or the only one that is taken of a text of several; None
            leaves it open, or takes all.
    """

    walk: WalkSettings = field(default_factory=WalkSettings)
    continuous: bool = False
    num_sequences: int = 128
    seed: int = 0
    num_orders: int | None = None
    label: str | None = None

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
            f"{what} the {self.walk.num_steps}-step {self.walk.transition} sampler{policy}{again}"
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
            "label": evaluation.label,
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
