"""One step of a walk, and what it costs to send the true sequence through it.

A step of `dγ` from `z` samples from the model's kernel `p(z'|z)`; the channel, which knows the true
token `x`, has the kernel `q(z'|z, x) = N(z + x dγ, dγ)`. Summed along a walk drawn from the
channel, `log q/p` bounds `-log P_θ(x)` from above for exactly the sampler that uses these steps
(the usual evidence bound; the channel's start `z = 0` is the sampler's, so no prior term is left).

- Euler (paper B.2, algorithm 2): `p = N(z + x̂ dγ, dγ)`. The expected `log q/p` is a divergence of
  two Gaussians, `½ dγ ‖x - x̂‖²`.
- Ancestral: `p = Σ_v Q(v|z) N(z + e_v dγ, dγ)`. With `δ = z' - z` and `‖e_v‖ = 1` the squares
  cancel and `log q/p = x·δ - log Σ_v Q(v|z) exp(e_v·δ)`. As `dγ → 0` its mean tends to Euler's.

At `dγ = ∞` a step decides the token. The ancestral kernel becomes `Q` and its cost `-log Q(x|z)`:
the chain rule of autoregressive models and the bound of masked diffusion. Euler's kernel has no
limit of its own there, so both transitions decode an infinite step in this way.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core.channel import State, walk_towards
from stochloc.core.denoisers.posterior import Posterior
from stochloc.core.streams import Randomness, among


@runtime_checkable
class Transition(Protocol):
    """How a walk takes one step, and the cost of that step in nats.

    A step of ∞ draws the token from `Q` by `posterior.sample`, and a step that moves no token by a
    finite amount draws nothing else. So a walk of such steps may be taken by reading
    (`core.memory`), with the same draws.
    """

    def step(
        self,
        state: State,
        posterior: Posterior,
        dsnr: Float[Tensor, "batch length"],
        generator: Randomness,
    ) -> State:
        """Draw the next state of a free walk."""
        ...

    def cost(
        self,
        before: State,
        after: State,
        posterior: Posterior,
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length"]:
        """Return the cost per token of a channel step from `before` to `after`."""
        ...


class Euler:
    """Gaussian steps towards the posterior mean (paper B.2, algorithm 2): weak order 1 in `dγ`."""

    def step(
        self,
        state: State,
        posterior: Posterior,
        dsnr: Float[Tensor, "batch length"],
        generator: Randomness,
    ) -> State:
        """Draw `z' = z + x̂ dγ + √dγ ε`; tokens with `dγ = ∞` are drawn from `Q`.

        Args:
            state: Where the walk is.
            posterior: The denoiser's answer at `state`.
            dsnr: Steps in γ, in `[0, ∞]`.
            generator: Source of randomness.

        Returns:
            The next state. No denoiser call.
        """
        moved = walk_towards(state, posterior.mean, dsnr, generator)
        deciding = dsnr.isinf() & ~state.is_known
        if not bool(deciding.any()):
            return moved
        return moved.reveal(posterior.sample(among(generator, deciding.any(-1))), deciding)

    def cost(
        self,
        before: State,
        after: State,
        posterior: Posterior,
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length"]:
        """Return `½ dγ ‖x - x̂‖²`, and `-log Q(x|z)` where the token was decided.

        Args:
            before: The state the posterior was computed at.
            after: The state the channel moved to.
            posterior: The denoiser's answer at `before`.
            tokens: The true tokens.

        Returns:
            Nats per token, at least 0; 0 where the token was known before.
        """
        error = (posterior.codebook.encode(tokens) - posterior.mean).square().sum(-1)
        moving = 0.5 * torch.where(after.is_known, 0.0, after.snr - before.snr) * error
        return torch.where(_decided(before, after), -posterior.log_prob(tokens), moving)


class Ancestral:
    """Draw a token from the posterior, then step towards its code; exact at `dγ = ∞`.

    The marginal of each token after a step is exact however long the step is; what a step ignores
    is the dependence between tokens that move in the same step.
    """

    def step(
        self,
        state: State,
        posterior: Posterior,
        dsnr: Float[Tensor, "batch length"],
        generator: Randomness,
    ) -> State:
        """Draw `v ~ Q(·|z)`, then `z' = z + e_v dγ + √dγ ε`; at `dγ = ∞` the token is `v`.

        Args:
            state: Where the walk is.
            posterior: The denoiser's answer at `state`.
            dsnr: Steps in γ, in `[0, ∞]`.
            generator: Source of randomness.

        Returns:
            The next state. No denoiser call.
        """
        drawn = posterior.sample(generator)
        moved = walk_towards(state, posterior.codebook.encode(drawn), dsnr, generator)
        return moved.reveal(drawn, dsnr.isinf() & ~state.is_known)

    def cost(
        self,
        before: State,
        after: State,
        posterior: Posterior,
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length"]:
        """Return `x·δ - log Σ_v Q(v|z) exp(e_v·δ)`, and `-log Q(x|z)` where the token was decided.

        Args:
            before: The state the posterior was computed at.
            after: The state the channel moved to; its noise is part of the estimate.
            posterior: The denoiser's answer at `before`.
            tokens: The true tokens.

        Returns:
            Nats per token; 0 where the token was known. A value may be negative, the mean is not.
        """
        dz = torch.where(after.is_known[..., None], 0.0, after.z - before.z)
        moving = -posterior.log_mgf(dz, tokens)
        return torch.where(_decided(before, after), -posterior.log_prob(tokens), moving)


@dataclass(frozen=True)
class InOneStep:
    """A transition whose finite steps are ancestral, so that one token's are exact at any length.

    Corrector rounds raise a token in a single step, which is too long for Euler's method.

    Attributes:
        transition: Decides tokens where `dγ = ∞`.
    """

    transition: Transition

    def step(
        self,
        state: State,
        posterior: Posterior,
        dsnr: Float[Tensor, "batch length"],
        generator: Randomness,
    ) -> State:
        """Take finite steps as `Ancestral` does, infinite ones as the transition does.

        Args:
            state: Where the walk is.
            posterior: The denoiser's answer at `state`.
            dsnr: Steps in γ, in `[0, ∞]`.
            generator: Source of randomness.

        Returns:
            The next state. No denoiser call.
        """
        deciding = dsnr.isinf()
        finite, infinite = dsnr.masked_fill(deciding, 0.0), dsnr.masked_fill(~deciding, 0.0)
        moved = Ancestral().step(state, posterior, finite, among(generator, (finite > 0).any(-1)))
        if not bool(deciding.any()):
            return moved
        return self.transition.step(moved, posterior, infinite, among(generator, deciding.any(-1)))

    def cost(
        self,
        before: State,
        after: State,
        posterior: Posterior,
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length"]:
        """Return `Ancestral`'s cost, and the transition's where the token was decided.

        Args:
            before: The state the posterior was computed at.
            after: The state the channel moved to.
            posterior: The denoiser's answer at `before`.
            tokens: The true tokens.

        Returns:
            Nats per token.
        """
        moving = Ancestral().cost(before, after, posterior, tokens)
        deciding = self.transition.cost(before, after, posterior, tokens)
        return torch.where(_decided(before, after), deciding, moving)


def _decided(before: State, after: State) -> Bool[Tensor, "batch length"]:
    return after.is_known & ~before.is_known
