"""The interface of a method in a comparison: a loss, a bound and a sampler.

Every method is built from the same `Frame`: it puts its own network around the frame's backbone and
adds its own noise and bound. The network is an argument of the constructor, so that tests can
replace it by the exact posterior of a small data set and prove that the bound is one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stochloc.core import Estimate
from stochloc.nn import Backbone


@dataclass(frozen=True)
class Frame:
    """What all methods of a comparison share.

    Attributes:
        counts: How often each token occurs in the training text, `(V,)`.
        length: Tokens per window, L.
        backbone: The transformer in the network of every method.
    """

    counts: Int[Tensor, " vocabulary"]
    length: int
    backbone: Backbone

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, V."""
        return len(self.counts)


@dataclass(frozen=True)
class Drawn:
    """Sequences drawn by a method.

    Attributes:
        tokens: The sequences, all in `[0, V)`.
        denoiser_calls: Number of network calls, each for the whole batch.
    """

    tokens: Int[Tensor, "batch length"]
    denoiser_calls: int


class Method(nn.Module, ABC):
    """A method that learns a distribution of sequences.

    Attributes:
        is_exact: Whether `bound` returns `-log P(x)` itself.
        held: How many float32 numbers `loss` and its gradient hold at their peak for every place
            and every token of the vocabulary; 0 where they take the vocabulary in blocks or never
            list it. The default is that of a cross-entropy of logits.
    """

    is_exact: ClassVar[bool] = False
    held: ClassVar[float] = 3.1

    def undecayed(self) -> Sequence[nn.Parameter]:
        """Return parameters with two or more dimensions that must not be decayed.

        These are not weights of a network but means and scales of a distribution, or embeddings of
        tokens: 0 is no natural value of theirs, so decay would only bias them.
        """
        return ()

    def prepare(self, share: float) -> None:
        """Receive the progress of training, before each update; most methods ignore it.

        Args:
            share: Share of the training that is done after this update, in `(0, 1]`.
        """

    @abstractmethod
    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the training loss, in nats per token, with its gradient.

        Args:
            tokens: A batch of training text.
            generator: Source of times and noise, on the device of the tokens.

        Returns:
            An unbiased estimate of the method's objective.
        """

    @abstractmethod
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return an unbiased estimate of an upper bound on `-log P(x)` of every sequence.

        Args:
            tokens: The sequences to score.
            num_samples: Times drawn per sequence, at least 1; exact methods ignore it.
            generator: Source of times and noise.

        Returns:
            Nats of every token, float64, and the network calls per sequence.
        """

    @abstractmethod
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Draw sequences.

        Args:
            num_sequences: How many.
            length: Tokens of each.
            num_steps: Number of steps, at least 1; methods with a fixed number ignore it.
            generator: Source of all randomness.

        Returns:
            The sequences and the number of network calls.
        """


@dataclass(frozen=True)
class Entry:
    """A method as comparisons know it: how it is made, and which revision of its code that is.

    Attributes:
        make: Returns the untrained method from what all methods share.
        revision: Raised by one with every change to the method that may change its results, so
            that a trial of another revision does not pass for one of this.
    """

    make: Callable[[Frame], Method]
    revision: int = 1

    def __call__(self, frame: Frame) -> Method:
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        return self.make(frame)
