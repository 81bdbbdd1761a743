"""A walk that chooses its own number of steps to limit the share of nats lost to discretisation.

Let `U = Σ_i (1 - ‖x̂_i‖²)`, which under a calibrated posterior is `E‖x - x̂‖²`. A step of `h` costs
`½ h U` with the error at its beginning, while the line integral follows the falling error. x̂ is a
martingale, so on average the error can only fall, and evaluating it again after the step brackets
the information that the step gained:

    ½ h U_after  ≤  nats gained  ≤  ½ h U_before,      nats lost  ≤  ½ h (U_before - U_after),

each in expectation over the outcome of the step. The controller keeps both sums. They are valid
however the steps are chosen from the states before them, and include correlations: information that
one token carries about others makes U fall faster. The rate of its fall, `E‖Δx̂‖² / (h U)`, averaged
over the last steps, gives the step that loses the given share. Since the rate is at most U, the
first step loses no more than that share for a single token or for several identical ones. A step is
never taken back: choosing among finished steps would invalidate the bound.

At the end all tokens are decided at once. That loses at most the sum of their entropies, and is
done when the sum is no more than the allowed share of the nats *gained* minus the nats lost so far.
The entropies at the start do not measure the total information: for n identical tokens they count
it n times.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Posterior
from stochloc.core.paths.base import offered
from stochloc.core.policies.base import Pace
from stochloc.core.streams import Randomness

Rows = Float[Tensor, "batch 1"]
MEMORY = 0.3
LARGEST_GROWTH = 2.0
# The steps aim at 0.8 of the share; at least 0.1 of it is reserved for the last decision.
IN_STEPS, LEAST_LEFT = 0.8, 0.1
LONGEST, SMALLEST = 1e6, 1e-9


@dataclass(frozen=True)
class Tolerance:
    """Take steps, equal for all tokens of a sequence, that lose a given share of the nats.

    Attributes:
        share: Share of the nats that discretisation may lose, in `(0, 1)`: on average over the
            data, with a calibrated denoiser and enough steps, the bound of the Euler transition
            exceeds the entropy by less than about this share of it; the ancestral transition loses
            less. On the exact priors of the tests a third to nine tenths of the share is lost. The
            number of steps is proportional to `log(1/share)/share`.
    """

    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"A tolerance must lie in (0, 1), not {self.share}.")

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return the controller's pace.

        Args:
            state: The start of the walk.
            num_steps: The largest number of steps, at least 1; after them all tokens are decided.
            generator: Not used.

        Returns:
            The pace.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        free = ~state.is_known
        steps = offered(num_steps, free)
        control = _Control(self.share, free)

        def dsnr(n: int, state: State, posterior: Posterior) -> Float[Tensor, "batch length"]:
            return control.step(posterior).expand(state.snr.shape).masked_fill(state.is_known, 0.0)

        return Pace(steps, dsnr)


class _Control:
    """The controller's memory of each sequence: the last evaluation, the rate, and both sums.

    The rate `E‖Δx̂‖² / (h (1 - ‖x̂‖²))` is averaged over the last steps, rather than the logarithm of
    the step: single steps are so noisy that the controller would keep lengthening them.
    """

    def __init__(self, share: float, free: Tensor) -> None:
        self.share, self.free = share, free
        self.last: tuple[Rows, Tensor, Rows] | None = None
        self.rate: Rows | None = None
        self.lost = self.gained = torch.zeros(len(free), 1)

    def step(self, posterior: Posterior) -> Rows:
        """Return the next step of every sequence."""
        x_hat, error = posterior.mean, self._sum(posterior.uncertainty).clamp(min=SMALLEST)
        if self.last is None:
            # ‖Cov(x_i, x_j)‖² ≤ U_i U_j, so the error falls at most at the rate U.
            step = self._wanted(error)
        else:
            longest = LARGEST_GROWTH * self.last[0]
            step = torch.minimum(self._wanted(self._look_back(x_hat, error)), longest)
        step = step.clamp(max=LONGEST)
        self.last = (step, x_hat, error)
        return step.masked_fill(self._sum(posterior.entropy) <= self._left(), torch.inf)

    def _wanted(self, rate: Rows) -> Rows:
        return IN_STEPS * self.share / rate.clamp(min=SMALLEST)

    def _look_back(self, x_hat: Tensor, error: Rows) -> Rows:
        """Add the last step to the sums, and return the rate at which the error falls."""
        assert self.last is not None
        step, x_hat_before, error_before = self.last
        self.lost = self.lost + 0.5 * step * (error_before - error)
        self.gained = self.gained + 0.5 * step * error
        seen = self._sum((x_hat - x_hat_before).square().sum(-1)) / (step * error_before)
        self.rate = seen if self.rate is None else self.rate + MEMORY * (seen - self.rate)
        return self.rate

    def _left(self) -> Rows:
        """The nats that the last decision may lose: the part of the share not lost by the steps."""
        allowed = self.share * self.gained
        return torch.maximum(allowed - self.lost, LEAST_LEFT * allowed)

    def _sum(self, values: Float[Tensor, "batch length"]) -> Rows:
        return (values * self.free).sum(-1, keepdim=True)
