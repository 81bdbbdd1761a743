"""Methods whose bound is an average over draws of latent variables.

-log P(x) <= E_q(v|x)[ log q(v|x) - log p(x, v) ]
"""

from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import Estimate
from stochloc.core.numerics import in_double
from stochloc.methods.method import Method


class Variational(Method):
    """A method whose cost of each token is an average over its latent variables."""

    @abstractmethod
    def token_nats(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, "batch length"]:
        """Return the integrand of the bound at one draw, with its gradient.

        Args:
            tokens: The true tokens.
            generator: Source of the latent variables.

        Returns:
            Nats of every token; their average over draws is the bound.
        """

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the bound at one draw, nats per token; one call."""
        return self.token_nats(tokens, generator).mean()

    def draws(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "samples batch length"]:
        """Return the integrand of the bound at several draws.

        Args:
            tokens: The true tokens.
            num_samples: Number of draws, at least 1.
            generator: Source of the latent variables.

        Returns:
            Nats of every token, float64.

        Raises:
            ValueError: `num_samples` is below 1.
        """
        if num_samples < 1:
            raise ValueError(f"A bound needs at least one draw, not {num_samples}.")
        draws = [in_double(self.token_nats(tokens, generator)) for _ in range(num_samples)]
        return torch.stack(draws)

    @torch.no_grad()
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return the bound averaged over draws; `num_samples` calls of each network."""
        return Estimate(self.draws(tokens, num_samples, generator).mean(0), num_samples)
