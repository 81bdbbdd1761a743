"""MDLM: masked diffusion with a linear α (Sahoo et al. 2024, Simple masked diffusion models).

    -log P(x) <= ∫₀¹ 1/t E[ Σ_masked -log Q_θ(x_i|x_t) ] dt

Their log-linear noise is `α = 1 - t`. As in their text models (kuleshov-group/mdlm,
`configs/config.yaml`: `time_conditioning: False`) the network is not conditioned on the time, so
the cached sampler applies. Training times are stratified over the batch and begin at 1e-3, as
theirs do (`antithetic_sampling: True`, `sampling_eps: 1e-3`); the bound covers all times.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.methods.masked import MaskedDiffusion, WithPrior, masked_network
from stochloc.methods.method import Frame


class Mdlm(MaskedDiffusion):
    """Masked diffusion with the log-linear schedule and the cached sampler."""

    earliest = 1e-3

    @classmethod
    def with_prior(cls, frame: Frame) -> "Mdlm":
        """Return the untrained method with log token frequencies added to its logits."""
        return cls(WithPrior(masked_network(frame), frame.counts), frame.vocabulary_size)


class UnweightedMdlm(Mdlm):
    """MDLM trained with the unweighted cross-entropy of masked tokens, an ablation."""

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy in nats per masked token; one call."""
        time = self.training_times(tokens, generator)
        is_masked = self.draw_masks(tokens, time, generator)
        return self.masked_nats(tokens, is_masked).sum() / is_masked.sum().clamp(min=1)
