"""A denoiser that keeps to what is likely: nucleus sampling (Holtzman et al. 2020).

Like a temperature (`core.denoisers.tempered`), a nucleus is an opinion about the model and not
about the evidence. It restricts what the other tokens say of one, and leaves its evidence exact:

    Q_m(x_i|z) ∝ exp(z_i·x_i) Q(x_i|z_-i) 1[x_i in the nucleus of Q(·|z_-i)].

Of a denoiser that is not two-sided the whole posterior is restricted, evidence included.
"""

from dataclasses import dataclass

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.reading import Reader, changed, read
from stochloc.core.denoisers.two_sided import Between, between


@dataclass(frozen=True)
class Nucleus:
    """A denoiser whose leave-one-out posteriors keep their most likely values only.

    Of a denoiser that is not two-sided the whole posterior is restricted. Its walk no longer
    samples the model's distribution: `mass = 1` alone is exact. The bound of a text with a token
    outside the nucleus is infinite.

    Attributes:
        denoiser: The denoiser to restrict.
        mass: Probability of the values kept, as few as have it together, in `(0, 1]`.
    """

    denoiser: Denoiser
    mass: float

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ValueError(f"The mass of a nucleus must lie in (0, 1], not be {self.mass}.")

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    @property
    def between(self) -> Between | None:
        """The wrapped denoiser's answers from two sides, restricted; one call of it."""
        sides = between(self.denoiser)
        if sides is None:
            return None
        return lambda left, right: sides(left, right).nucleus(self.mass)

    def read(self, state: State) -> Reader | None:
        """Return the wrapped denoiser's reader, its answers restricted."""
        return changed(read(self.denoiser, state), lambda q: q.nucleus(self.mass))

    def __call__(self, state: State) -> Posterior:
        """Return the restricted posterior; one call of the wrapped denoiser."""
        sides = self.between
        if sides is None:
            return self.denoiser(state).nucleus(self.mass)
        return sides(state, state).observed(state)
