"""A denoiser that keeps to what is likely: nucleus sampling (Holtzman et al. 2020).

Like a temperature (`core.denoisers.tempered`), a nucleus is an opinion about the model and not
about the evidence. It restricts what the other tokens say of one, and leaves its evidence exact:

    Q_m(x_i|z) ∝ exp(z_i·x_i) Q(x_i|z_-i) 1[x_i in the nucleus of Q(·|z_-i)].

Of a denoiser that is not two-sided the whole posterior is restricted, evidence included.
"""

from dataclasses import dataclass

from stochloc.core.denoisers.posterior import Posterior
from stochloc.core.denoisers.reshaped import Reshaped


@dataclass(frozen=True)
class Nucleus(Reshaped):
    """A denoiser whose leave-one-out posteriors keep their most likely values only.

    Of a denoiser that is not two-sided the whole posterior is restricted. Its walk no longer
    samples the model's distribution: `mass = 1` alone is exact. The bound of a text with a token
    outside the nucleus is infinite.

    Attributes:
        denoiser: The denoiser to restrict.
        mass: Probability of the values kept, as few as have it together, in `(0, 1]`.
    """

    mass: float

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ValueError(f"The mass of a nucleus must lie in (0, 1], not be {self.mass}.")

    def reshape(self, posterior: Posterior) -> Posterior:
        """Return the posterior of the values in its nucleus."""
        return posterior.nucleus(self.mass)
