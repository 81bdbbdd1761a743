"""Classifier-free guidance: lean towards what a condition changes.

Of two denoisers, one of which knows a condition y and one of which does not, guidance of strength w
takes, token by token,

    log Q_w(v|z) = log Q(v|z) + w (log Q(v|z, y) - log Q(v|z)) + const.

At `w = 1` this is the conditional denoiser, so the walk draws from P(x|y); above 1 it leans further
towards y, below 1 less far. Only `w = 0` and `w = 1` are the law of something known; a bound with
any w still holds for the walk that uses it.

A condition can be a label, which a model has been trained with, or simply the tokens of a prompt,
which every model can be made to forget.
"""

import math
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.two_sided import Between, between


@dataclass(frozen=True)
class Guided:
    """Two denoisers as one, guided from the unconditional one towards the conditional one.

    Attributes:
        conditional: Knows the condition.
        unconditional: Does not.
        strength: w, at least 0: 0 ignores the condition, 1 follows it, more exaggerates it.
    """

    conditional: Denoiser
    unconditional: Denoiser
    strength: float

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise ValueError(
                f"The strength of guidance must be at least 0 and finite, not {self.strength}."
            )

    @property
    def codebook(self) -> Codebook:
        """The codes, which both denoisers share."""
        return self.conditional.codebook

    @property
    def between(self) -> Between | None:
        """The guided answers from two sides, if both denoisers have them; one call of each.

        Both posteriors hold the same evidence of a token that neither is kept from seeing, and its
        weight is `(1 - w) + w = 1`: guidance of what is said without it comes to the same.
        """
        towards, away = between(self.conditional), between(self.unconditional)
        if towards is None or away is None:
            return None
        return lambda left, right: towards(left, right).guided(away(left, right), self.strength)

    def __call__(self, state: State) -> Posterior:
        """Return the guided posterior; one call of each denoiser."""
        return self.conditional(state).guided(self.unconditional(state), self.strength)


@dataclass(frozen=True, eq=False)
class Unconditional:
    """A denoiser that does not see some tokens, whatever the state says of them.

    Attributes:
        denoiser: The denoiser that is kept in the dark.
        hidden: The tokens it does not see.
    """

    denoiser: Denoiser
    hidden: Bool[Tensor, "batch length"]

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    @property
    def between(self) -> Between | None:
        """The answers from two sides without the hidden tokens; one call of the wrapped denoiser.

        They are evidence that the denoiser itself leaves out at the hidden places, where its answer
        is not completed by `observed`.
        """
        sides = between(self.denoiser)
        if sides is None:
            return None
        return lambda left, right: sides(left.forget(self.hidden), right.forget(self.hidden))

    def __call__(self, state: State) -> Posterior:
        """Return the posterior given the other tokens alone; one call."""
        return self.denoiser(state.forget(self.hidden))
