"""Steps adapted to the curvature of the walk, token by token (paper A.8, algorithms 1 and 3).

Along its own drift `x̂` the drift of token i changes at the rate

    κ_i = ‖(x̂·∇) x̂_i‖                                                     (eq. 22, 25)

per unit of γ. Where it changes fast a step must be short: `h_i = min(δ/(κ_i + 10⁻⁶), γ_max/N)`.

The derivative along one direction is a forward-mode product (the paper calls it reverse-mode). The
last step gives another estimate without a further call: along `Δz` the drift has changed by `Δx̂`,
so `‖Δx̂_i‖ ‖x̂‖/‖Δz‖` is its rate of change along that step, at the speed of the drift. Without
noise the two agree as the step shrinks.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.linearised import Linearised
from stochloc.core.denoisers.posterior import Posterior
from stochloc.core.paths.base import offered
from stochloc.core.policies.base import Pace
from stochloc.core.streams import Randomness

Kappa = Float[Tensor, "batch length"]


@runtime_checkable
class CurvatureProbe(Protocol):
    """A method of computing the curvature of every token."""

    def start(self) -> "Probing":
        """Return the probe at work on one walk."""
        ...


@runtime_checkable
class Probing(Protocol):
    """A probe at work on one walk."""

    @property
    def calls(self) -> int:
        """Denoiser calls made so far in addition to those of the walk."""
        ...

    def __call__(self, state: State, posterior: Posterior) -> Kappa:
        """Return the curvature of every token, given the walk's posterior at the state."""
        ...


@dataclass(frozen=True)
class JacobianProduct:
    """The exact directional derivative, by forward-mode differentiation (algorithm 1).

    Attributes:
        denoiser: The denoiser of the walk itself, which remembers its last call.
    """

    denoiser: Linearised

    def start(self) -> "Probing":
        """Return the probe; each product counts as one call and takes as long as one or two."""
        return _Product(self.denoiser)


class _Product:
    """A probe that keeps only the number of its calls."""

    def __init__(self, denoiser: Linearised) -> None:
        self.denoiser, self.calls = denoiser, 0

    def __call__(self, state: State, posterior: Posterior) -> Kappa:
        """Return `‖(x̂·∇) x̂_i‖`."""
        before = self.denoiser.calls
        # No denoiser reads z where the token is known, so the tangent there has no effect.
        tangent = self.denoiser.derivative(state, posterior.mean)
        self.calls += self.denoiser.calls - before
        return tangent.norm(dim=-1)


@dataclass(frozen=True)
class FiniteDifference:
    """The change of the drift along the last step, at no further call; 0 before the first step."""

    def start(self) -> "Probing":
        """Return the probe, which remembers the last state and its denoised codes."""
        return _Difference()


class _Difference:
    """A probe that remembers the last state and its denoised codes."""

    calls = 0

    def __init__(self) -> None:
        self.last: tuple[Tensor, Tensor] | None = None

    def __call__(self, state: State, posterior: Posterior) -> Kappa:
        """Return `‖Δx̂_i‖ ‖x̂‖/‖Δz‖`."""
        x_hat, moving = posterior.mean, ~state.is_known[..., None]
        z, x_hat_before = self.last or (state.z, x_hat)
        self.last = (state.z, x_hat)
        moved = ((state.z - z) * moving).flatten(1).norm(dim=-1)
        speed = (x_hat * moving).flatten(1).norm(dim=-1)
        rate = torch.where(moved > 0, speed / moved, 0.0)
        return (x_hat - x_hat_before).norm(dim=-1) * rate[:, None]


@dataclass(frozen=True)
class Curvature:
    """The paper's per-token sampler: short steps where the drift is curved (algorithm 3).

    Attributes:
        probe: How the curvature is computed.
        delta: Change of `x̂_i` allowed in a step, δ; positive.
        snr_min: γ that every token receives in the first step in addition, at least 0: the paper
            starts counting γ there but with `z = 0`; here z is moved accordingly, with the same
            `x̂`.
        snr_max: Largest γ a token can reach in N steps, γ_max; positive. Tokens whose drift is
            curved stay below it and are decided there.
    """

    probe: CurvatureProbe = field(default_factory=FiniteDifference)
    delta: float = 0.01
    snr_min: float = 0.01
    snr_max: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.delta < math.inf and 0 < self.snr_max < math.inf):
            raise ValueError(
                f"δ and γ_max must be positive and finite, not {self.delta} and {self.snr_max}."
            )
        if not 0 <= self.snr_min < math.inf:
            raise ValueError(f"γ_min must be at least 0 and finite, not {self.snr_min}.")

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return the pace of N steps of at most `γ_max/N`.

        Args:
            state: The start of the walk.
            num_steps: N, at least 1; one more step decides what is left.
            generator: Not used.

        Returns:
            The pace.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        steps = offered(num_steps, state.is_known)
        curvature = self.probe.start()
        longest = self.snr_max / num_steps

        def dsnr(n: int, state: State, posterior: Posterior) -> Kappa:
            step = (self.delta / (curvature(state, posterior) + 1e-6)).clamp(max=longest)
            return step + self.snr_min if n == 0 else step

        return Pace(steps, dsnr, own_calls=lambda: curvature.calls)
