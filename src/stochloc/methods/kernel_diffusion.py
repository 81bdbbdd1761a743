"""Discrete diffusion with a kernel of any kind: what D3PM and SEDD share.

    -log P(x) <= ∫₀¹ E[ nats(x, t) ] dt + D( q(x_1|x_0) ‖ π )

The integrand is D3PM's divergence of a step or SEDD's score entropy. The divergence of the last
noisy tokens from the stationary distribution π does not depend on the time.
"""

from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from stochloc.methods.kernels import Kernel
from stochloc.methods.schedules import Schedule, final_alpha
from stochloc.methods.time_integral import TimeIntegral


class KernelDiffusion(TimeIntegral):
    """Discrete diffusion with a kernel, along a schedule.

    Args:
        network: Returns `(B, L, V)` given states and time; subclasses say what.
        vocabulary_size: Number of tokens, V.
        kernel: How tokens are replaced by noise.
        schedule: Gives α.
    """

    time_exponent: ClassVar[float] = 0.5

    def __init__(
        self, network: nn.Module, vocabulary_size: int, kernel: Kernel, schedule: Schedule
    ) -> None:
        super().__init__()
        self.network, self.vocabulary_size = network, vocabulary_size
        self.kernel, self.schedule = kernel, schedule

    def fixed_nats(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return the divergence of the last noisy tokens from π."""
        return self.kernel.prior_nats(tokens, final_alpha(self.schedule))
