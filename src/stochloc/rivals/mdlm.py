"""MDLM: masked diffusion with a linear α (Sahoo et al. 2024, Simple masked diffusion models).

    -log P(x) <= ∫₀¹ 1/t E[ Σ_masked -log Q_θ(x_i|x_t) ] dt

Their log-linear noise is `α = 1 - t`. As in their text models the network is told no time, so the
cached sampler applies. Times are stratified over the batch, as theirs are.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stochloc.core.numerics import draw_stratified
from stochloc.nn import smoothed_log_unigram
from stochloc.rivals.masked import MaskedDiffusion, MaskedNetwork, masked_network
from stochloc.rivals.rival import Frame


class Mdlm(MaskedDiffusion):
    """Masked diffusion with the log-linear schedule and the cached sampler."""


class InformedMdlm(Mdlm):
    """The same with token frequencies added to the logits, to see what the prior alone does."""

    @classmethod
    def from_frame(cls, frame: Frame) -> "InformedMdlm":
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        log_unigram = smoothed_log_unigram(frame.counts).float()
        return cls(Biased(masked_network(frame), log_unigram), frame.vocabulary_size)


class Biased(nn.Module):
    """A network with constants added to its outputs.

    Args:
        network: Returns outputs, `(..., V)`.
        bias: What is added.
    """

    def __init__(self, network: MaskedNetwork, bias: Float[Tensor, " vocabulary"]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("bias", bias)
        self.bias: Tensor

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length outputs"]:
        """Return the network's outputs with the constants added."""
        return self.network(tokens) + self.bias


class UnweightedMdlm(Mdlm):
    """The same trained by plain cross-entropy over masked tokens, to see what the weight does."""

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy of masked tokens, nats for each of them; one call."""
        time = draw_stratified(1, len(tokens), generator)[0].to(tokens.device)
        is_masked = self.draw_masks(tokens, time, generator)
        return self.masked_nats(tokens, is_masked).sum() / is_masked.sum().clamp(min=1)
