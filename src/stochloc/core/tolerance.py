"""A walk that chooses its own number of steps: hold the share of nats lost to discretisation.

A step of `h` prices the walk with the error at its beginning, `½ h E‖x - x̂‖²`, while the line
integral falls with it. Under a calibrated posterior `E‖x - x̂‖² = 1 - ‖x̂‖²` and x̂ is a martingale,
so along the step the error falls by `E‖Δx̂‖²`, and to first order in h a step

    costs     ½ h (1 - ‖x̂‖²)     nats per token,
    of which  ¼ h E‖Δx̂‖²         are lost.

Their ratio, `E‖Δx̂‖² / (2 (1 - ‖x̂‖²))`, is what is held at the tolerance. It grows in proportion to
h, so from the rate seen over the last steps follows the step that meets it. A step is never taken
back: choosing among finished steps would spoil the bound. When the entropy left is less than the
tolerated share of what there was at the start, deciding all tokens at once cannot lose more than
that share, and the walk ends.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoiser import Posterior
from stochloc.core.paths import offered
from stochloc.core.policies import Pace
from stochloc.core.streams import Randomness

Rows = Float[Tensor, "batch 1"]
MEMORY = 0.3
LARGEST_GROWTH = 2.0
LONGEST, SMALLEST = 1e6, 1e-9


@dataclass(frozen=True)
class Tolerance:
    """Take steps, alike for all tokens of a sequence, that lose a given share of the nats.

    Attributes:
        share: Share of the nats that discretisation may lose, in `(0, 1)`; with a calibrated
            denoiser and the Euler transition, to first order. Smaller means more steps, in
            proportion to `log(1/share)/share`.
    """

    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"A tolerance must lie in (0, 1), not {self.share}.")

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return the controller at work.

        Args:
            state: The start of the walk.
            num_steps: The most steps it may take, at least 1; after them the rest is decided.
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
    """What the controller remembers of each sequence: its last step and how fast the error falls.

    The rate `E‖Δx̂‖² / (h (1 - ‖x̂‖²))` is averaged over the last steps, not the step over its
    logarithm: single steps are so noisy that the controller would lengthen them again and again.
    """

    def __init__(self, share: float, free: Tensor) -> None:
        self.share, self.free = share, free
        self.last: tuple[Rows, Tensor, Rows] | None = None
        self.rate = self.entropy_at_start = torch.zeros(len(free), 1)

    def step(self, posterior: Posterior) -> Rows:
        """Return the next step of every sequence."""
        x_hat, entropy = posterior.mean, self._average(posterior.entropy)
        uncertainty = self._average(posterior.uncertainty).clamp(min=SMALLEST)
        if self.last is None:
            # For a token alone the rate is at most 1 - ‖x̂‖².
            self.rate, self.entropy_at_start = uncertainty, entropy
        else:
            step, x_hat_before, uncertainty_before = self.last
            fallen = self._average((x_hat - x_hat_before).square().sum(-1))
            self.rate = self.rate + MEMORY * (fallen / (step * uncertainty_before) - self.rate)
        step = (2 * self.share / self.rate.clamp(min=SMALLEST)).clamp(max=LONGEST)
        if self.last is not None:
            step = torch.minimum(step, LARGEST_GROWTH * self.last[0])
        self.last = (step, x_hat, uncertainty)
        return step.masked_fill(entropy <= self.share * self.entropy_at_start, torch.inf)

    def _average(self, values: Float[Tensor, "batch length"]) -> Rows:
        total = (values * self.free).sum(-1, keepdim=True)
        return total / self.free.sum(-1, keepdim=True).clamp(min=1)
