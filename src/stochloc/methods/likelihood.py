"""Methods with an exact likelihood, `-log P(x) = Σ_i -log P(x_i | x_1 ... x_{i-1})`."""

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import Estimate
from stochloc.core.numerics import in_double
from stochloc.methods.left_to_right import LeftToRightNats
from stochloc.methods.method import Method


@runtime_checkable
class CausalNetwork(Protocol):
    """A network whose outputs at a place depend only on inputs at that place and earlier ones."""

    def __call__(self, inputs: Tensor, /) -> Float[Tensor, "batch length outputs"]:
        """Return the outputs of every place."""
        ...

    def extend(
        self, inputs: Tensor, past: list[Any], /
    ) -> tuple[Float[Tensor, "batch 1 outputs"], list[Any]]:
        """Return the outputs of one more place, and the cache for the next."""
        ...


class Likelihood(Method):
    """A method trained and scored by exact likelihood."""

    is_exact = True

    @abstractmethod
    def token_nats(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return `-log P(x_i | x_1 ... x_{i-1})` of every token.

        Args:
            tokens: The true tokens.

        Returns:
            Nats, with gradient.
        """

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return `-log P(x)` per token; deterministic."""
        return self.token_nats(tokens).mean()

    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return `-log P(x)` exactly; one call."""
        return self._exact(tokens)

    @property
    def left_to_right(self) -> LeftToRightNats:
        """Returns `-log P(x_i | x_<i)` of every token: the bound itself."""
        return self._exact

    @torch.no_grad()
    def _exact(self, tokens: Int[Tensor, "batch length"]) -> Estimate:
        return Estimate(in_double(self.token_nats(tokens)), 1, is_exact=True)
