"""Methods whose bound is an average over a time in `[0, 1)`.

    -log P(x) <= fixed(x) + ∫₀¹ E[ nats(x, t) ] dt

Most of Table 1 has this form: the integrand is a weighted cross-entropy, a divergence or a score
entropy at one noise level, and what stands outside is the divergence from the prior.

In training a time is uniform on `[ε, 1)`, as the authors' is, one drawn from each of equal strata
over the batch (MDLM's sampler; MD4's shifts all strata by one draw, SEDD's has none).

In evaluation a uniform time would not do. A token is lost at time t with probability `O(t^w)` and
costs `O(1/t)` then, so the estimate's second moment is `∫ t^(w-2) dt`: infinite for `w <= 1`, which
is every masked method (w = 1). Drawn at `t = u^(1/q)` with u uniform, of density `q t^(q-1)`, and
divided by that density, it is `∫ t^(w-1-q)/q dt`: finite for `q < w`. At `q = w/2` what is averaged
over u is bounded (up to logarithms for score entropy with uniform noise). u is drawn one from each
of equal strata over the samples of each sequence, so the average is unbiased.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import Estimate
from stochloc.core.numerics import draw_stratified, in_double
from stochloc.methods.method import Method

# A time so early that nothing is lost by then, and whose inverse is finite in float32.
SOONEST = 1e-30


class TimeIntegral(Method):
    """A method that says what each token costs at a time.

    Attributes:
        earliest: Where the times of training begin, ε.
    """

    earliest: ClassVar[float] = 0.0

    @abstractmethod
    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return the integrand of the bound, with its gradient.

        Args:
            tokens: The true tokens.
            time: A time of every sequence, in `[0, 1)`, float64 where the device has it.
            generator: Source of the noise.

        Returns:
            Nats of every token; their average over noise and time is the integral.
        """

    def fixed_nats(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return what each token costs whatever the time: 0 unless a method says otherwise.

        Args:
            tokens: The true tokens.

        Returns:
            Nats of every token.
        """
        return torch.zeros(tokens.shape, device=tokens.device)

    def crowding(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Return how the times of the bound crowd at 0: uniform unless a method says otherwise.

        Args:
            tokens: The true tokens.

        Returns:
            q of every sequence, in (0, 1], float64: times are `u^(1/q)` with u uniform.
        """
        return in_double(torch.ones(len(tokens), device=tokens.device))

    def training_times(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, " batch"]:
        """Draw a time of every sequence, uniform on `[ε, 1)`, one from each of equal strata.

        Args:
            tokens: The true tokens.
            generator: Source of randomness.

        Returns:
            The times.
        """
        u = draw_stratified(1, len(tokens), generator)[0].to(tokens.device)
        return self.earliest + (1 - self.earliest) * u

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the bound at one time for each sequence, nats per token; one network call."""
        nats = self.token_nats(tokens, self.training_times(tokens, generator), generator)
        return (nats + self.fixed_nats(tokens)).mean()

    @torch.no_grad()
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return an unbiased estimate of the bound; `num_samples` network calls."""
        if num_samples < 1:
            raise ValueError(f"A bound needs at least one time, not {num_samples}.")
        nats, power = in_double(self.fixed_nats(tokens)), self.crowding(tokens)
        u = draw_stratified(len(tokens), num_samples, generator)
        times = (u.to(power) ** (1 / power[:, None])).clamp(min=SOONEST)
        # One over the density of the time.
        weights = times ** (1 - power[:, None]) / power[:, None]
        for time, weight in zip(times.unbind(-1), weights.unbind(-1), strict=True):
            own = self.token_nats(tokens, time.to(u.dtype).to(tokens.device), generator)
            nats = nats + in_double(own) * weight[:, None] / num_samples
        return Estimate(nats, num_samples)


def crowded(tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
    """Return the crowding that suits tokens lost in proportion to the time: ½ for all.

    Args:
        tokens: The true tokens.

    Returns:
        q of every sequence.
    """
    return in_double(torch.full((len(tokens),), 0.5, device=tokens.device))
