"""Methods whose bound is an average over a time in `[0, 1)`.

    -log P(x) <= fixed(x) + ∫₀¹ E[ nats(x, t) ] dt

Most of Table 1 has this form: the integrand is a weighted cross-entropy, a divergence or a score
entropy at one noise level; the remaining term is the divergence from the prior.

In training, times are uniform on `[ε, 1)`, as in the authors' code, and stratified over the batch:
one from each of equal strata (as MDLM does; MD4 shifts all strata by one draw, SEDD has none).

In evaluation, uniform times would not do. A token is lost at time t with probability `O(t^w)` and
then costs `O(1/t)`, so the second moment of the estimate is `∫ t^(w-2) dt`: infinite for `w <= 1`,
which includes every masked method (w = 1). With times `t = u^(1/q)`, u uniform, whose density is
`q t^(q-1)`, and weights that divide by this density, it is `∫ t^(w-1-q)/q dt`: finite for `q < w`.
At `q = w/2` the average over u has a bounded integrand (up to logarithms for score entropy with
uniform noise). u is stratified over the samples of each sequence, so the average is unbiased.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import Estimate
from stochloc.core.numerics import draw_stratified, in_double
from stochloc.methods.method import Method

# So early that no token is lost yet, and yet the inverse is finite in float32.
EARLIEST_TIME = 1e-30


class TimeIntegral(Method):
    """A method whose cost of each token is an average over a time.

    Attributes:
        earliest: Start ε of the training times.
        time_exponent: Exponent q of the evaluation times `u^(1/q)`, in (0, 1]: 1 where times are
            uniform, ½ where tokens are lost in proportion to the time.
    """

    earliest: ClassVar[float] = 0.0
    time_exponent: ClassVar[float] = 1.0

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
        """Return the part of the bound that does not depend on the time; 0 by default.

        Args:
            tokens: The true tokens.

        Returns:
            Nats of every token.
        """
        return torch.zeros(tokens.shape, device=tokens.device)

    def time_exponents(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Return the exponent of the evaluation times of each sequence.

        Args:
            tokens: The true tokens.

        Returns:
            q of every sequence, in (0, 1], float64: times are `u^(1/q)` with u uniform.
        """
        return in_double(torch.full((len(tokens),), self.time_exponent, device=tokens.device))

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
        u = draw_evaluation_times(tokens, num_samples, generator)
        nats, power = in_double(self.fixed_nats(tokens)), self.time_exponents(tokens)
        times = (u.to(power) ** (1 / power[:, None])).clamp(min=EARLIEST_TIME)
        # The inverse of the density of the times.
        weights = times ** (1 - power[:, None]) / power[:, None]
        for time, weight in zip(times.unbind(-1), weights.unbind(-1), strict=True):
            own = self.token_nats(tokens, time.to(u.dtype).to(tokens.device), generator)
            nats = nats + in_double(own) * weight[:, None] / num_samples
        return Estimate(nats, num_samples)


def draw_evaluation_times(
    tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
) -> Float[Tensor, "batch samples"]:
    """Draw uniform times of every sequence, stratified over its samples.

    Args:
        tokens: The true tokens.
        num_samples: Times per sequence, at least 1.
        generator: Source of randomness.

    Returns:
        Times in `[0, 1)`, on the generator's device.

    Raises:
        ValueError: `num_samples` is below 1.
    """
    if num_samples < 1:
        raise ValueError(f"A bound needs at least one time, not {num_samples}.")
    return draw_stratified(len(tokens), num_samples, generator)
