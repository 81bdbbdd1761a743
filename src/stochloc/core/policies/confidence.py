"""What a walk believed of the values its tokens have: which of them to doubt first."""

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Posterior


class TokenConfidence:
    """How likely each token's value was when the denoiser was last asked about it."""

    def __init__(self, state: State) -> None:
        self.values = torch.ones_like(state.snr)
        self._was_known = state.is_known
        self._asked: Posterior | None = None

    def ask(self, state: State, posterior: Posterior) -> None:
        """Take note of a posterior before the step that uses it."""
        belief = torch.where(state.is_known, self.values, posterior.confidence)
        self.values, self._was_known, self._asked = belief, state.is_known, posterior

    def after(self, state: State) -> Float[Tensor, "batch length"]:
        """Return the belief once the step was taken: decided tokens count as what they became."""
        if self._asked is not None:
            drawn = self._asked.log_prob(state.known.clamp(min=0)).exp()
            decided = state.is_known & ~self._was_known
            self.values = torch.where(decided, drawn, self.values)
            self._was_known = state.is_known
        return self.values
