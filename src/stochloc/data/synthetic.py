"""Sources of sequences whose probability is known exactly, in float64 nats.

| symbol | meaning |
|---|---|
| `V`, `S` | numbers of tokens and of hidden states |
| `π` | `initial`, the distribution of the first token or state |
| `A` | `transition`, each row the distribution of the next token or state |
| `B` | `emission`, each row the distribution of the token that a state emits |

A Markov chain has `P(x) = π(x₁) Π A(x_i, x_{i+1})`. A hidden Markov model sums that over hidden
paths by the forward recursion `α_{i+1} = (α_i A) ∘ B(·, x_{i+1})`, rescaled at every step; the
logarithms of the scales sum to `log P(x)`. Knows nothing of models or text.
"""

import math
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float64, Int64, Integer
from torch import Tensor

from stochloc.data.distributions import (
    check_distributions,
    draw,
    random_distributions,
    support,
    walk,
)


@runtime_checkable
class Source(Protocol):
    """A distribution of token sequences that can be sampled, evaluated and enumerated."""

    @property
    def vocabulary_size(self) -> int:
        """The number of different tokens, **V**."""
        ...

    def sample(
        self, num: int, length: int, generator: torch.Generator
    ) -> Int64[Tensor, "num length"]:
        """Draw independent sequences."""
        ...

    def log_prob(self, tokens: Integer[Tensor, "num length"]) -> Float64[Tensor, " num"]:
        """Return the exact log-probability of each sequence, in nats."""
        ...

    def enumerate(
        self, length: int
    ) -> tuple[Int64[Tensor, "sequences length"], Float64[Tensor, " sequences"]]:
        """Return all sequences of positive probability and their log-probabilities."""
        ...


@final
@dataclass(frozen=True, eq=False)
class MarkovChain:
    """A chain of tokens, each drawn from a distribution that depends on the one before.

    Args:
        initial: the distribution of the first token, **π**, shape (V,).
        transition: the distributions of the next token, **A**, shape (V, V), rows sum to 1.

    Raises:
        ValueError: a distribution has a negative probability or does not sum to 1.
    """

    initial: Float64[Tensor, " vocabulary"]
    transition: Float64[Tensor, "vocabulary vocabulary"]

    def __post_init__(self) -> None:
        check_distributions("initial", self.initial)
        check_distributions("transition", self.transition)

    @classmethod
    def random(
        cls, vocabulary_size: int, generator: torch.Generator, concentration: float = 1.0
    ) -> "MarkovChain":
        """Return a chain whose distributions are drawn from a symmetric Dirichlet distribution.

        Args:
            vocabulary_size: the number of tokens, **V**.
            generator: the source of randomness.
            concentration: small: nearly deterministic; large: nearly uniform.

        Returns:
            A chain on V tokens.
        """
        rows = random_distributions(vocabulary_size + 1, vocabulary_size, concentration, generator)
        return cls(rows[0], rows[1:])

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens."""
        return len(self.initial)

    def sample(
        self, num: int, length: int, generator: torch.Generator
    ) -> Int64[Tensor, "num length"]:
        """Draw independent sequences.

        Args:
            num: how many.
            length: tokens per sequence, at least 1.
            generator: the source of randomness.

        Returns:
            Tokens, shape (num, length).
        """
        return walk(self.initial, self.transition, num, length, generator)

    def log_prob(self, tokens: Integer[Tensor, "num length"]) -> Float64[Tensor, " num"]:
        """Return `log P` of each sequence in nats; -inf if it cannot occur.

        Args:
            tokens: shape (num, length).

        Returns:
            Shape (num,), exact.
        """
        tokens = tokens.long()
        first = self.initial.log()[tokens[:, 0]]
        return first + self.transition.log()[tokens[:, :-1], tokens[:, 1:]].sum(dim=1)

    def enumerate(
        self, length: int
    ) -> tuple[Int64[Tensor, "sequences length"], Float64[Tensor, " sequences"]]:
        """Return all sequences of positive probability and their log-probabilities.

        Args:
            length: tokens per sequence, at least 1.

        Returns:
            Sequences, shape (M, length), in lexicographic order; `log P` in nats, shape (M,).

        Raises:
            ValueError: there are more than 2²⁰ of them.
        """
        shown = torch.eye(self.vocabulary_size, dtype=torch.float64)
        sequences = support(self.initial, self.transition, shown, length)
        return sequences, self.log_prob(sequences)


@final
@dataclass(frozen=True, eq=False)
class HiddenMarkov:
    """Tokens emitted by the states of a Markov chain, which are hidden.

    Args:
        initial: the distribution of the first state, **π**, shape (S,).
        transition: the distributions of the next state, **A**, shape (S, S), rows sum to 1.
        emission: the distributions of the emitted token, **B**, shape (S, V), rows sum to 1.

    Raises:
        ValueError: a distribution has a negative probability or does not sum to 1.
    """

    initial: Float64[Tensor, " states"]
    transition: Float64[Tensor, "states states"]
    emission: Float64[Tensor, "states vocabulary"]

    def __post_init__(self) -> None:
        check_distributions("initial", self.initial)
        check_distributions("transition", self.transition)
        check_distributions("emission", self.emission)

    @classmethod
    def random(
        cls,
        num_states: int,
        vocabulary_size: int,
        generator: torch.Generator,
        concentration: float = 1.0,
    ) -> "HiddenMarkov":
        """Return a model whose distributions are drawn from a symmetric Dirichlet distribution.

        Args:
            num_states: the number of hidden states, **S**.
            vocabulary_size: the number of tokens, **V**.
            generator: the source of randomness.
            concentration: small: nearly deterministic; large: nearly uniform.

        Returns:
            A model of S states on V tokens.
        """
        rows = random_distributions(num_states + 1, num_states, concentration, generator)
        emission = random_distributions(num_states, vocabulary_size, concentration, generator)
        return cls(rows[0], rows[1:], emission)

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens."""
        return self.emission.shape[1]

    def sample(
        self, num: int, length: int, generator: torch.Generator
    ) -> Int64[Tensor, "num length"]:
        """Draw independent sequences.

        Args:
            num: how many.
            length: tokens per sequence, at least 1.
            generator: the source of randomness.

        Returns:
            Tokens, shape (num, length).
        """
        states = walk(self.initial, self.transition, num, length, generator)
        return draw(self.emission[states.flatten()], generator).view(num, length)

    def log_prob(self, tokens: Integer[Tensor, "num length"]) -> Float64[Tensor, " num"]:
        """Return `log P` of each sequence in nats; -inf if it cannot occur.

        Args:
            tokens: shape (num, length).

        Returns:
            Shape (num,), exact: the forward recursion, O(length S²) per sequence.
        """
        likelihood = self.emission.T[tokens.long()]
        predicted = self.initial.expand(len(tokens), -1)
        total = torch.zeros(len(tokens), dtype=torch.float64)
        for seen in likelihood.unbind(dim=1):
            joint = predicted * seen
            scale = joint.sum(dim=1)
            total = total + scale.log()
            # An impossible sequence has scale 0 and keeps its -inf; dividing by 0 would give NaN.
            predicted = joint / torch.where(scale > 0, scale, 1.0)[:, None] @ self.transition
        return total

    def enumerate(
        self, length: int
    ) -> tuple[Int64[Tensor, "sequences length"], Float64[Tensor, " sequences"]]:
        """Return all sequences of positive probability and their log-probabilities.

        Args:
            length: tokens per sequence, at least 1.

        Returns:
            Sequences, shape (M, length), in lexicographic order; `log P` in nats, shape (M,).

        Raises:
            ValueError: there are more than 2²⁰ of them.
        """
        sequences = support(self.initial, self.transition, self.emission, length)
        return sequences, self.log_prob(sequences)


@final
@dataclass(frozen=True)
class Cyclic:
    """The cyclic shifts of 0, 1, .., K-1, all equally likely: the paper's data (appendix C).

    Args:
        size: the number of tokens and the length of the sequences, **K**.

    Raises:
        ValueError: the size is less than 1.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"A cycle of {self.size} tokens was requested; ask for at least 1.")

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens, which is also the length."""
        return self.size

    def sample(
        self, num: int, length: int, generator: torch.Generator
    ) -> Int64[Tensor, "num length"]:
        """Draw independent shifts.

        Args:
            num: how many.
            length: must be the size of the cycle.
            generator: the source of randomness.

        Returns:
            Tokens, shape (num, K).

        Raises:
            ValueError: the length is not the size.
        """
        self._check(length)
        return self._shifts(torch.randint(self.size, (num,), generator=generator))

    def log_prob(self, tokens: Integer[Tensor, "num length"]) -> Float64[Tensor, " num"]:
        """Return `-log K` for shifts of the cycle and -inf for other sequences, in nats.

        Args:
            tokens: shape (num, K).

        Returns:
            Shape (num,), exact.

        Raises:
            ValueError: the length is not the size.
        """
        self._check(tokens.shape[1])
        is_shift = (tokens == self._shifts(tokens[:, 0].long())).all(dim=1)
        nats = torch.full((len(tokens),), -math.log(self.size), dtype=torch.float64)
        return nats.where(is_shift, -math.inf)

    def enumerate(
        self, length: int
    ) -> tuple[Int64[Tensor, "sequences length"], Float64[Tensor, " sequences"]]:
        """Return the K shifts and their log-probabilities.

        Args:
            length: must be the size of the cycle.

        Returns:
            Sequences, shape (K, K), in lexicographic order; `log P` in nats, shape (K,).

        Raises:
            ValueError: the length is not the size.
        """
        self._check(length)
        sequences = self._shifts(torch.arange(self.size))
        return sequences, self.log_prob(sequences)

    def _shifts(self, first: Int64[Tensor, " num"]) -> Int64[Tensor, "num length"]:
        return (first[:, None] + torch.arange(self.size)) % self.size

    def _check(self, length: int) -> None:
        if length != self.size:
            raise ValueError(f"A cycle of {self.size} tokens has no sequences of length {length}.")
