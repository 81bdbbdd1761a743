"""Denoisers that change what the other tokens say of one, and leave its own evidence exact.

Of the two factors of the posterior (`core.denoisers.two_sided`) only the second is changed, by a
map R of distributions over the vocabulary:

    Q_R(x_i|z) ∝ exp(z_i·x_i) R[Q(·|z_-i)](x_i).

A denoiser that is not two-sided has no second factor to give, so R is applied to its posterior as a
whole, evidence included.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.reading import Reader, changed, read
from stochloc.core.denoisers.stretches import Stretch, within
from stochloc.core.denoisers.two_sided import Between, between


@dataclass(frozen=True)
class Reshaped(ABC):
    """A denoiser whose leave-one-out posteriors are changed, place by place.

    Attributes:
        denoiser: The denoiser to change.
    """

    denoiser: Denoiser

    @abstractmethod
    def reshape(self, posterior: Posterior) -> Posterior:
        """Return what becomes of a posterior; no denoiser call.

        Args:
            posterior: What the other tokens say of each; of a denoiser that is not two-sided, what
                its own evidence says too.

        Returns:
            The changed posterior.
        """

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    @property
    def between(self) -> Between | None:
        """The wrapped denoiser's answers from two sides, changed; one call of it."""
        sides = between(self.denoiser)
        return None if sides is None else lambda left, right: self.reshape(sides(left, right))

    def read(self, state: State) -> Reader | None:
        """Return the wrapped denoiser's reader, its answers changed."""
        return changed(read(self.denoiser, state), self.reshape)

    def within(self, state: State, stretch: Stretch) -> Denoiser:
        """Return the same change of what the wrapped denoiser becomes in a stretch."""
        return replace(self, denoiser=within(self.denoiser, state, stretch))

    def __call__(self, state: State) -> Posterior:
        """Return the changed posterior; one call of the wrapped denoiser."""
        sides = self.between
        if sides is None:
            return self.reshape(self.denoiser(state))
        return sides(state, state).observed(state)
