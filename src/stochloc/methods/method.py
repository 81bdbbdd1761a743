"""What a method must do to take part in a comparison: a loss, a bound and a sampler.

Every method gets the same `Frame` and makes of it what it needs: its network around the frame's
backbone, its noise, its bound. The network is a constructor's argument, so that the exact posterior
of a small data set can take its place and show that the bound is one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
        backbone: The transformer around which every method builds its network.
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
        denoiser_calls: How often the network was asked, each time about the whole batch.
    """

    tokens: Int[Tensor, "batch length"]
    denoiser_calls: int


class Method(nn.Module, ABC):
    """A method that learns a law of sequences.

    Attributes:
        is_exact: Whether `bound` returns `-log P(x)` itself.
    """

    is_exact: ClassVar[bool] = False

    def undecayed(self) -> Sequence[nn.Parameter]:
        """Return parameters with two or more dimensions that are no weights.

        Means and scales of a law, or the vectors tokens are written as: a decay pulls weights to
        where a network says less, these to where nobody wants them.
        """
        return ()

    def prepare(self, share: float) -> None:
        """Be told how far training is, before each update; most methods need not know.

        Args:
            share: Share of the training that is done when this update is, in `(0, 1]`.
        """

    @abstractmethod
    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return what training minimises, in nats per token, with its gradient.

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
            num_samples: Times drawn per sequence, at least 1; without meaning for exact methods.
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
            num_steps: Steps wanted, at least 1; without meaning for methods that have no choice.
            generator: Source of all randomness.

        Returns:
            The sequences and what they cost.
        """
