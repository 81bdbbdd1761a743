"""A two-sided model of texts that are given but for one stretch: a step costs the stretch.

The left stack is causal, so its keys and values of what stands before the stretch do not depend on
the stretch; nor do the right stack's of what stands behind. Both are computed once, for a walk
whose every step then computes embeddings, blocks and join of the stretch alone. Hidden states
outside of it are 0: the tokens there are known, and nothing is asked about them.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from stochloc.core import Between, Codebook, Posterior, State
from stochloc.core.denoisers.stretches import Stretch
from stochloc.nn.backbones import InStretch
from stochloc.nn.vocabulary import Readout

# What must be saved at least: a stretch has keys from memory and a mask, which the whole has not.
LEAST_SAVING = 0.25


def is_worthwhile(state: State, stretch: Stretch) -> bool:
    """Return whether a walk over a stretch saves enough of what it costs over the whole text."""
    return stretch.end - stretch.begin <= (1 - LEAST_SAVING) * state.known.shape[1]


class ModelStretch:
    """The denoiser of states that are one state outside of a stretch.

    Args:
        network: The backbone in the stretch.
        convert: Returns the embeddings of noisy codes and known tokens.
        readout: The prediction of tokens, given their hidden states and their noisy codes.
        codebook: The token codes.
        places: What is added to embeddings in the stretch, `(1, S, W)`; None for nothing.
        stretch: The places that may change.
        length: Places of the whole text.
    """

    def __init__(
        self,
        network: InStretch,
        convert: Callable[[State], Tensor],
        readout: Callable[[Tensor, State], Readout],
        codebook: Codebook,
        places: Tensor | None,
        stretch: Stretch,
        length: int,
    ) -> None:
        self.network, self.convert, self.readout = network, convert, readout
        self.codebook, self.places = codebook, places
        self.stretch, self.length = stretch, length

    @property
    def between(self) -> Between:
        """The model's answers from two sides in the stretch; one call."""
        return lambda left, right: self._read_out(left, right).without_evidence().posterior

    def __call__(self, state: State) -> Posterior:
        """Return the posterior of every token, in the stretch that of the model; one call."""
        return self._read_out(state, state).posterior

    def _read_out(self, left: State, right: State) -> Readout:
        assert left.known.shape[1] == self.length
        from_left = self._embed(left)
        hidden = self.network(from_left, from_left if left is right else self._embed(right))
        around = (self.stretch.begin, self.length - self.stretch.end)
        return self.readout(F.pad(hidden, (0, 0, *around)), left)

    def _embed(self, state: State) -> Tensor:
        embedded = self.convert(state.cropped(self.stretch.begin, self.stretch.end))
        return embedded if self.places is None else embedded + self.places
