"""A two-sided model that reads from left to right: one place of one stack a step.

The right stack sees the state alone, whatever is decided on the left, so it runs once, when the
reader is made. So do the embeddings of the state's own noisy codes. A token that is decided then
costs one place of the left stack, which remembers keys and values, one join and one readout.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stochloc.core import Posterior, State
from stochloc.core.denoisers.reading import Tokens
from stochloc.nn.backbones.base import PlaceByPlace
from stochloc.nn.vocabulary import Readout


class ModelReader:
    """Predicts one place after another, from left to right (`core.denoisers.reading`).

    Args:
        network: The backbone's hidden states, place by place.
        readout: The prediction of tokens, given their hidden states and their noisy codes.
        state: The state that is read.
        embedded: Its embeddings, `(B, L, W)`.
        embeddings: Embeddings of known tokens, `(V, W)`.
        places: What is added to them at each place, `(1, L, W)`; None for nothing.
    """

    def __init__(
        self,
        network: PlaceByPlace,
        readout: Callable[[Tensor, State], Readout],
        state: State,
        embedded: Tensor,
        embeddings: Tensor,
        places: Tensor | None = None,
    ) -> None:
        self.network, self.readout, self.state = network, readout, state
        self.embedded, self.embeddings, self.places = embedded, embeddings, places
        self.place = 0

    def next(self, tokens: Tokens) -> Posterior:
        """Return `Q(x_i | read_<i, state_>i)` of the place i after more tokens; one call.

        Args:
            tokens: The tokens that come next, `-1` where they are as the state has them.

        Returns:
            The posterior of one place.
        """
        begin, self.place = self.place, self.place + tokens.shape[1]
        more = slice(begin, self.place)
        told = self.embeddings[tokens.clamp(min=0)]
        if self.places is not None:
            told = told + self.places[:, more]
        read = torch.where((tokens < 0)[..., None], self.embedded[:, more], told)
        here = self.state.cropped(self.place, self.place + 1)
        return self.readout(self.network.next(read), here).without_evidence().posterior
