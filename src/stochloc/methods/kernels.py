"""Kernels of discrete diffusion: how tokens are lost, and the way back by Bayes' rule.

A token is kept with probability α and replaced by a draw from the stationary law π otherwise:

    q(x_t|x_0) = α_t δ(x_t = x_0) + (1 - α_t) π(x_t),    q(x_t|x_s) the same with a = α_t/α_s,
    q(x_s|x_t, x_0) ∝ [a δ(x_s = x_t) + (1 - a) π(x_t)] [α_s δ(x_s = x_0) + (1 - α_s) π(x_s)].

π is the mask for the absorbing kernel and uniform for the other. If x_0 has the law p̃ given all
noisy tokens but its own, putting p̃ in place of `δ(x_0)` gives the true law of x_s given x_t: a
network that predicts p̃ is what D3PM and Multinomial Diffusion train (their `θ_post`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core.numerics import draw_categorical, draw_uniform


@dataclass(frozen=True)
class Kernel:
    """A way of losing tokens.

    Attributes:
        stationary: The law π of what replaces them, over S states, float64; at least V.
    """

    stationary: Float[Tensor, " states"]

    @property
    def num_states(self) -> int:
        """Number of states S a noisy token may be in."""
        return len(self.stationary)

    def draw_stationary(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw tokens from π.

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
        """Return the certain law of each token over the states, float64."""
        return F.one_hot(tokens, self.num_states).double()

    def forward_law(
        self,
        law: Float[Tensor, "batch length states"],
        alpha: Float[Tensor, "*batch 1 1"],
    ) -> Float[Tensor, "batch length states"]:
        """Return the law of a noisy token.

        Args:
            law: Law of the token without noise.
            alpha: Probability that it is kept.

        Returns:
            `α law + (1 - α) π`.
        """
        return alpha * law + (1 - alpha) * self.stationary.to(law)

    def backward_law(
        self,
        noisy: Int[Tensor, "batch length"],
        law: Float[Tensor, "batch length states"],
        alpha_s: Float[Tensor, "*batch 1 1"],
        alpha_t: Float[Tensor, "*batch 1 1"],
    ) -> Float[Tensor, "batch length states"]:
        """Return the law of `x_s` given `x_t` and a law of `x_0` that has not seen `x_t`.

        Args:
            noisy: `x_t`.
            law: `δ(x_0)` for the true law, the network's p̃ for the model's.
            alpha_s: α at the earlier time.
            alpha_t: α at the later time, less than `alpha_s`.

        Returns:
            Probabilities over the states, exact.
        """
        kept = alpha_t / alpha_s
        arrived = self.stationary.to(law)[noisy][..., None]
        likelihood = kept * self.one_hot(noisy).to(law) + (1 - kept) * arrived
        joint = likelihood * self.forward_law(law, alpha_s)
        return joint / joint.sum(-1, keepdim=True)

    def prior_nats(
        self, tokens: Int[Tensor, "batch length"], last_alpha: float
    ) -> Float[Tensor, "batch length"]:
        """Return the divergence of the last noisy tokens from π.

        Args:
            tokens: The true tokens.
            last_alpha: α at the end, the probability that a token is still itself.

        Returns:
            Nats of every token, exact.
        """
        law = self.one_hot(tokens)
        noisy = self.forward_law(law, law.new_full((1, 1, 1), last_alpha))
        return divergence(noisy, self.stationary.to(law).expand_as(law))


def absorbing(vocabulary_size: int) -> Kernel:
    """Return the kernel that masks: the state V is the mask.

    Args:
        vocabulary_size: Number of tokens, V.

    Returns:
        A kernel of V + 1 states.
    """
    return Kernel(F.one_hot(torch.tensor(vocabulary_size), vocabulary_size + 1).double())


def uniform(vocabulary_size: int) -> Kernel:
    """Return the kernel that replaces tokens by any token.

    Args:
        vocabulary_size: Number of tokens, V.

    Returns:
        A kernel of V states.
    """
    return Kernel(torch.full((vocabulary_size,), 1 / vocabulary_size, dtype=torch.float64))


def divergence(
    true: Float[Tensor, "batch length states"], model: Float[Tensor, "batch length states"]
) -> Float[Tensor, "batch length"]:
    """Return the Kullback-Leibler divergence of laws.

    Args:
        true: The law that is averaged over.
        model: The law it is held against.

    Returns:
        Nats, exact; ∞ where the model excludes what is possible.
    """
    # Where both are 0 the derivative of the logarithm must not turn 0 into NaN.
    possible = torch.where(true > 0, model, 1.0)
    return (torch.special.xlogy(true, true) - torch.special.xlogy(true, possible)).sum(-1)
