"""What a measure of certainty is."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from stochloc.core.denoisers.posterior import Posterior


@runtime_checkable
class Certainty(Protocol):
    """A measure of the posterior's certainty about every token.

    A function of each token's own `Q(v|z)`, with no draw and no denoiser call: a policy that
    decides the most certain tokens first is then a rule, and its bound is exact.
    """

    def __call__(self, posterior: Posterior) -> Float[Tensor, "batch length"]:
        """Return the certainty about every token.

        Args:
            posterior: A posterior of any kind; its public properties are enough.

        Returns:
            Numbers in `[0, 1]`: 1 exactly where one value has all of the probability, smaller the
            more of it is spread evenly over the others.
        """
        ...
