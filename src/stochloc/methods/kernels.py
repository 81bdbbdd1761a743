"""Kernels of discrete diffusion: how tokens become noise, and the way back by Bayes' rule.

A token is kept with probability α and otherwise replaced by a draw from the stationary
distribution π:

    q(x_t|x_0) = α_t δ(x_t = x_0) + (1 - α_t) π(x_t),    q(x_t|x_s) the same with a = α_t/α_s,
    q(x_s|x_t, x_0) ∝ [a δ(x_s = x_t) + (1 - a) π(x_t)] [α_s δ(x_s = x_0) + (1 - α_s) π(x_s)].

π is a point mass on the mask for the absorbing kernel and uniform over tokens for the other. If p̃
is the distribution of x_0 given all noisy tokens except its own, then p̃ in place of `δ(x_0)` gives
the true distribution of x_s given x_t. D3PM and Multinomial Diffusion train a network that predicts
p̃ (their `θ_post`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core.numerics import draw_categorical, draw_uniform


@dataclass(frozen=True)
class Kernel:
    """A way of replacing tokens by noise.

    Attributes:
        stationary: The distribution π of the replacements, over S states, float64; S >= V.
    """

    stationary: Float[Tensor, " states"]

    @property
    def num_states(self) -> int:
        """Number of states S of a noisy token."""
        return len(self.stationary)

    def draw_stationary(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw states from π.

        Args:
            shape: Shape of the result.
            generator: Source of randomness.

        Returns:
            States, in `[0, S)`.
        """
        weights = self.stationary.to(generator.device)
        return draw_categorical(weights.expand(*shape, -1), generator)

    def noisy(
        self,
        tokens: Int[Tensor, "batch length"],
        alpha: Float[Tensor, "batch 1"],
        generator: torch.Generator,
    ) -> Int[Tensor, "batch length"]:
        """Draw `x_t` given `x_0`.

        Args:
            tokens: The true tokens.
            alpha: Probability that a token is kept.
            generator: Source of randomness.

        Returns:
            Noisy tokens, in `[0, S)`.
        """
        shape = tuple(tokens.shape)
        is_lost = draw_uniform(shape, generator).to(alpha) >= alpha
        return torch.where(is_lost, self.draw_stationary(shape, generator), tokens)

    def one_hot(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length states"]:
        """Return the point mass on each token, over the states, float64."""
        return F.one_hot(tokens, self.num_states).double()

    def forward_probs(
        self,
        probs: Float[Tensor, "batch length states"],
        alpha: Float[Tensor, "*batch 1 1"],
    ) -> Float[Tensor, "batch length states"]:
        """Return the distribution of a noisy token.

        Args:
            probs: Distribution of the token without noise.
            alpha: Probability that it is kept.

        Returns:
            `α probs + (1 - α) π`.
        """
        return alpha * probs + (1 - alpha) * self.stationary.to(probs)

    def likelihood(
        self, noisy: Int[Tensor, "batch length"], kept: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "batch length states"]:
        """Return `q(x_t|x_s = y)` for every state y.

        Args:
            noisy: `x_t`.
            kept: Probability `a = α_t/α_s` that a token is kept from s to t; the result has its
                type.

        Returns:
            `a δ(y = x_t) + (1 - a) π(x_t)`, the likelihood in Bayes' rule.
        """
        arrived = self.stationary.to(kept)[noisy][..., None]
        return kept * self.one_hot(noisy).to(kept) + (1 - kept) * arrived

    def backward_probs(
        self,
        noisy: Int[Tensor, "batch length"],
        probs: Float[Tensor, "batch length states"],
        alpha_s: Float[Tensor, "*batch 1 1"],
        alpha_t: Float[Tensor, "*batch 1 1"],
    ) -> Float[Tensor, "batch length states"]:
        """Return the distribution of `x_s` given `x_t`.

        Args:
            noisy: `x_t`.
            probs: Distribution of `x_0` that does not depend on `x_t` at the same place: `δ(x_0)`
                for the true posterior, the network's p̃ for the model's.
            alpha_s: α at the earlier time.
            alpha_t: α at the later time, less than `alpha_s`.

        Returns:
            Probabilities over the states, exact.
        """
        kept = alpha_t / alpha_s
        joint = self.likelihood(noisy, kept.to(probs)) * self.forward_probs(probs, alpha_s)
        return joint / joint.sum(-1, keepdim=True)

    def prior_nats(
        self, tokens: Int[Tensor, "batch length"], last_alpha: float
    ) -> Float[Tensor, "batch length"]:
        """Return the divergence of the last noisy tokens from π.

        Args:
            tokens: The true tokens.
            last_alpha: α at the end, the probability that a token is still kept.

        Returns:
            Nats of every token, exact.
        """
        certain = self.one_hot(tokens)
        noisy = self.forward_probs(certain, certain.new_full((1, 1, 1), last_alpha))
        return divergence(noisy, self.stationary.to(certain).expand_as(certain))


def absorbing(vocabulary_size: int) -> Kernel:
    """Return the kernel that masks: the state V is the mask.

    Args:
        vocabulary_size: Number of tokens, V.

    Returns:
        A kernel of V + 1 states.
    """
    return Kernel(F.one_hot(torch.tensor(vocabulary_size), vocabulary_size + 1).double())


def uniform(vocabulary_size: int) -> Kernel:
    """Return the kernel that replaces tokens by uniformly drawn tokens.

    Args:
        vocabulary_size: Number of tokens, V.

    Returns:
        A kernel of V states.
    """
    return Kernel(torch.full((vocabulary_size,), 1 / vocabulary_size, dtype=torch.float64))


def divergence(
    true: Float[Tensor, "batch length states"], model: Float[Tensor, "batch length states"]
) -> Float[Tensor, "batch length"]:
    """Return the Kullback-Leibler divergence of two distributions.

    Args:
        true: The distribution that is averaged over.
        model: The distribution it is compared with.

    Returns:
        Nats, exact; ∞ where the model gives probability 0 to a possible state.
    """
    # Where both are 0 the derivative of the logarithm must not turn 0 into NaN.
    possible = torch.where(true > 0, model, 1.0)
    return (torch.special.xlogy(true, true) - torch.special.xlogy(true, possible)).sum(-1)
