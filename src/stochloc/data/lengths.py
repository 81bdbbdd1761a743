"""The distribution of the lengths of sequences: `P(x) = P(n) P(x_1 ... x_n | n)`.

With `c_n` of N training sequences of length n, T different lengths among them, and M the greatest
length that is possible, the estimate of Witten and Bell mixes frequencies with the uniform
distribution, which has the weight of the T lengths that were new when they were first seen:

    P(n) = (c_n + T / M) / (N + T),        n = 1 .. M.

So every possible length has a positive probability, a small one where all sequences were of equal
length. n counts tokens of text; an empty sequence is not possible. Where sequences are of several
classes y, `P(n|y)` is estimated alike from those of each class, and P(n) from all of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64, Integer
from torch import Tensor


@dataclass(frozen=True)
class Lengths:
    """A distribution on the lengths 1 .. M.

    Attributes:
        probabilities: `P(1), ..., P(M)`; they add up to 1.
        of_classes: the distribution in each class, by its name; empty where there are no classes.

    Raises:
        ValueError: they are no distribution.
    """

    probabilities: tuple[float, ...]
    of_classes: Mapping[str, "Lengths"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_sum_one = math.isclose(math.fsum(self.probabilities), 1, abs_tol=1e-9)
        if not (is_sum_one and all(p >= 0 for p in self.probabilities)):
            raise ValueError("Probabilities of lengths must be at least 0 and add up to 1.")

    @classmethod
    def of(cls, lengths: Integer[np.ndarray, " sequences"], longest: int) -> "Lengths":
        """Return the smoothed distribution of the lengths of training sequences.

        Args:
            lengths: tokens of text of each, in `1 .. longest`; at least one.
            longest: the greatest length that is possible, **M**.

        Returns:
            The distribution; every length has a positive probability.

        Raises:
            ValueError: there are no lengths, or one is not possible.
        """
        if not len(lengths) or lengths.min() < 1 or lengths.max() > longest:
            raise ValueError(f"The lengths of sequences must lie in 1 .. {longest}.")
        counts = np.bincount(lengths, minlength=longest + 1)[1:]
        new = np.count_nonzero(counts)
        weights = (counts + new / longest) / (len(lengths) + new)
        return cls(tuple((weights / weights.sum()).tolist()))

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "Lengths":
        """Return the distribution whose `to_dict` gave these facts.

        Args:
            facts: JSON values from a file, so of any type.

        Returns:
            The distribution.

        Raises:
            ValueError: the facts are not those of a distribution of lengths.
        """
        of_classes = facts.get("of_classes", {})
        if not isinstance(of_classes, dict):
            raise ValueError("The distributions of the classes' lengths are not given by name.")
        return cls(
            _probabilities(facts.get("probabilities")),
            {str(name): cls(_probabilities(own)) for name, own in of_classes.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        facts: dict[str, Any] = {"probabilities": list(self.probabilities)}
        if self.of_classes:
            own = {name: list(given.probabilities) for name, given in self.of_classes.items()}
            facts["of_classes"] = own
        return facts

    def given(self, label: str | None) -> "Lengths":
        """Return the distribution in a class.

        Args:
            label: the name of a class of `of_classes`; None leaves it open.

        Returns:
            `P(n|y)`; the distribution over all classes where none is told.
        """
        return self if label is None else self.of_classes[label]

    @property
    def longest(self) -> int:
        """The greatest length, **M**."""
        return len(self.probabilities)

    def log_prob(self, lengths: Int[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """Return `log P(n)` in nats.

        Args:
            lengths: any numbers.

        Returns:
            The logarithms; -∞ for a length that is not possible.
        """
        inside = lengths.clamp(0, self.longest + 1)
        return self._table.to(lengths.device)[inside].log()

    def sample(self, num: int, generator: torch.Generator) -> Int64[Tensor, " num"]:
        """Draw lengths.

        Args:
            num: how many, at least 1.
            generator: the source of randomness.

        Returns:
            Independent lengths, on the CPU.
        """
        table = self._table.to(generator.device)
        return torch.multinomial(table, num, replacement=True, generator=generator).cpu()

    def within(self, shortest: int, longest: int) -> "Lengths":
        """Return the distribution given that a length lies in a range.

        Args:
            shortest: the least length.
            longest: the greatest length, at least as great.

        Returns:
            `P(n | shortest <= n <= longest)`.

        Raises:
            ValueError: no length of the range is possible.
        """
        chosen = [
            p if shortest <= n <= longest else 0.0 for n, p in enumerate(self.probabilities, 1)
        ]
        total = math.fsum(chosen)
        if not total > 0:
            asked = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
            raise ValueError(
                f"No sequence has a length of {asked} tokens: the model knows lengths from 1 to "
                f"{self.longest}."
            )
        return Lengths(tuple(p / total for p in chosen))

    @cached_property
    def _table(self) -> Float64[Tensor, " lengths"]:
        """Probabilities of 0 .. M + 1, of which the ends are not possible."""
        return torch.tensor([0.0, *self.probabilities, 0.0], dtype=torch.float64)


def _probabilities(values: object) -> tuple[float, ...]:
    if not (isinstance(values, list) and all(isinstance(p, float) for p in values)):
        raise ValueError("There is no list of probabilities of lengths.")
    return tuple(values)
