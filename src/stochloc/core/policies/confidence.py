"""The model's confidence in the current value of every token, recorded during a walk."""

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Posterior


class TokenConfidence:
    """The probability of each token's value in the posterior in which it was last uncertain."""

    def __init__(self, state: State) -> None:
        self.values = torch.ones_like(state.snr)
        self._was_known = state.is_known
        self._asked: Posterior | None = None

    def ask(self, state: State, posterior: Posterior) -> None:
        """Record the posterior before a step."""
        values = torch.where(state.is_known, self.values, posterior.confidence)
        self.values, self._was_known, self._asked = values, state.is_known, posterior

    def after(self, state: State) -> Float[Tensor, "batch length"]:
        """Return the confidence after a step; decided tokens have that of the value drawn."""
        if self._asked is not None:
            drawn = self._asked.log_prob(state.known.clamp(min=0)).exp()
            decided = state.is_known & ~self._was_known
            self.values = torch.where(decided, drawn, self.values)
            self._was_known = state.is_known
        return self.values
