"""A denoiser made sharper or flatter."""

import math
from dataclasses import dataclass

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior


@dataclass(frozen=True)
class Tempered:
    """A denoiser whose posteriors are raised to the power `1/temperature`.

    Its walk no longer samples the model's distribution: `temperature = 1` alone is exact.

    Attributes:
        denoiser: The denoiser to sharpen or flatten.
        temperature: Positive, dimensionless.
    """

    denoiser: Denoiser
    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"A temperature must be positive and finite, not {self.temperature}.")

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    def __call__(self, state: State) -> Posterior:
        """Return the tempered posterior; one call of the wrapped denoiser."""
        return self.denoiser(state).tempered(self.temperature)
