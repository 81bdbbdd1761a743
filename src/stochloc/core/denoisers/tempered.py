"""A denoiser made sharper or flatter.

A temperature is an opinion about the model, not about the evidence: what a noisy code says of its
own token, `exp(z_i·x_i)`, is exact and stays as it is. So of the two factors of the posterior
(`core.denoisers.two_sided`) only the second is tempered:

    Q_T(x_i|z) ∝ exp(z_i·x_i) Q(x_i|z_-i)^(1/T).

As the evidence of a token grows the temperature loses its say, and a walk ends with the tokens that
its own noisy codes name. A denoiser that is not two-sided has no second factor to give, so its
posterior is tempered as a whole, evidence included: `exp(z_i·x_i/T) Q(x_i|z_-i)^(1/T)`. Where no
token has evidence of its own yet, as along masked and autoregressive paths, both are the same.
"""

import math
from dataclasses import dataclass

from stochloc.core.denoisers.posterior import Posterior
from stochloc.core.denoisers.reshaped import Reshaped


@dataclass(frozen=True)
class Tempered(Reshaped):
    """A denoiser whose leave-one-out posteriors are raised to the power `1/temperature`.

    Of a denoiser that is not two-sided the whole posterior is, its evidence included. Its walk no
    longer samples the model's distribution: `temperature = 1` alone is exact.

    Attributes:
        denoiser: The denoiser to sharpen or flatten.
        temperature: Positive, dimensionless.
    """

    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"A temperature must be positive and finite, not {self.temperature}.")

    def reshape(self, posterior: Posterior) -> Posterior:
        """Return the posterior proportional to `Q^(1/temperature)`."""
        return posterior.tempered(self.temperature)
