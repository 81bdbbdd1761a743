"""Masked diffusion on a network that never looks at the token it predicts: ours without noise.

The distribution of a token given all others does not depend on whether that token is masked, so a
network that leaves it out, `Q_θ(x_i | x_t without place i)`, can be trained at every token:

    loss = E_t E[ mean over all tokens of -log Q_θ(x_i | x_t without place i) ]

At masked tokens this is the distribution that MDLM's bound and sampler ask for, and both are
MDLM's. The network is that of our recipe, over embeddings of tokens and of a mask, with the
logarithms of token frequencies added to its logits. What is left out is finite γ: every token is
either masked or known. The two methods here differ in their targets alone, all tokens or the masked
ones, so they separate what the network gains from what the loss does.

With the left known and the right masked everywhere, one call gives every `Q_θ(x_i | x_<i)`.
Hollow transformers in discrete diffusion: Sun et al. 2022, Score-based continuous-time discrete
diffusion models.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core import Estimate
from stochloc.core.numerics import in_double
from stochloc.methods.left_to_right import LeftToRightNats
from stochloc.methods.mdlm import UnweightedMdlm
from stochloc.methods.method import Frame
from stochloc.nn import smoothed_log_unigram
from stochloc.nn.backbones import ARCHITECTURES, TWO_SIDED

Tokens = Int[Tensor, "batch length"]
Logits = Float[Tensor, "batch length vocabulary"]


@runtime_checkable
class SidesNetwork(Protocol):
    """A network that predicts each token from those on its two sides."""

    def __call__(self, tokens: Tokens, time: Float[Tensor, " batch"] | None = None, /) -> Logits:
        """Return the logits of `Q(x_i | tokens_<i, tokens_>i)`; the time is ignored."""
        ...

    def between(self, left: Tokens, right: Tokens, /) -> Logits:
        """Return the logits of `Q(x_i | left_<i, right_>i)`."""
        ...


class TwoSidedNetwork(nn.Module):
    """The backbone of our recipe between embeddings of tokens and masks and a linear head.

    Args:
        frame: Gives the vocabulary, its frequencies and the backbone.
    """

    log_unigram: Tensor

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        size, width = frame.vocabulary_size, frame.backbone.width
        self.embedding = nn.Embedding(size + 1, width)
        self.transformer = ARCHITECTURES[TWO_SIDED](frame.backbone)
        self.head = nn.Parameter(torch.zeros(size, width))
        self.register_buffer("log_unigram", smoothed_log_unigram(frame.counts).float())
        self.float()

    def forward(self, tokens: Tokens, time: Float[Tensor, " batch"] | None = None) -> Logits:
        """Return the logits of every token given all others; one call."""
        return self._read(self.embedding(tokens))

    def between(self, left: Tokens, right: Tokens) -> Logits:
        """Return the logits of every token given `left` before it and `right` after it."""
        return self._read(self.embedding(left), self.embedding(right))

    def _read(self, *sides: Tensor) -> Logits:
        return F.linear(self.transformer(*sides), self.head) + self.log_unigram


class TwoSidedMdlm(UnweightedMdlm):
    """MDLM on a network that leaves out the token it predicts, trained at masked tokens alone.

    Args:
        network: Returns logits of V tokens; its input has V tokens and the mask V.
        vocabulary_size: Number of tokens, V.
    """

    network: SidesNetwork

    def __init__(self, network: SidesNetwork, vocabulary_size: int) -> None:
        super().__init__(network, vocabulary_size)

    @classmethod
    def from_frame(cls, frame: Frame) -> "TwoSidedMdlm":
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        return cls(TwoSidedNetwork(frame), frame.vocabulary_size)

    @property
    def left_to_right(self) -> LeftToRightNats:
        """Returns `-log Q(x_i | x_<i)` of every token, exact; one call."""
        return self._read_left_to_right

    @torch.no_grad()
    def _read_left_to_right(self, tokens: Tokens) -> Estimate:
        logits = self.network.between(tokens, torch.full_like(tokens, self.mask))
        nats = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
        return Estimate(in_double(nats), 1, is_exact=True)


class LeaveOneOutMdlm(TwoSidedMdlm):
    """The same trained at every token, masked or not."""

    def loss(self, tokens: Tokens, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the cross-entropy of every token given the others, nats per token; one call."""
        time = self.training_times(tokens, generator)
        is_masked = self.draw_masks(tokens, time, generator)
        logits = self.network(tokens.masked_fill(is_masked, self.mask))
        return F.cross_entropy(logits.transpose(1, 2), tokens)
