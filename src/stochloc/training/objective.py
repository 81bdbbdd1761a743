"""The training objective: cross-entropy of the true tokens given noisy ones (paper 3).

    loss = E_γ E_z [ mean over tokens not known of -log Q_θ(x_i|z) ]

Its minimiser is the true posterior, whose mean is the best denoiser, at every γ the law of training
reaches. The mean squared error would have the same minimiser for fixed codes, but lets learned
codes collapse to a point (paper B.1).
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.numerics import draw_uniform
from stochloc.training.snr import SnrLaw

UNLABELLED_SHARE = 0.1


@runtime_checkable
class Trainable(Protocol):
    """A model that can be trained, whatever wraps it: see `LocalizationModel.token_nats`."""

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        snr: Float[Tensor, "batch length"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return `-log Q(x_i|z)` at a drawn z; 0 where the token is known."""
        ...


def cross_entropy(
    model: Trainable,
    tokens: Int[Tensor, "batch length"],
    law: SnrLaw,
    generator: torch.Generator,
    first_label: int = 0,
) -> Float[Tensor, ""]:
    """Return the average nats per uncertain token of a batch.

    Labels are a condition: given with all of a sequence or, one time in ten, with none of it, so
    that the same model learns `P(x|y)` and `P(x)`. Under the law of the other tokens a label would
    hardly ever be known where little else is.

    Args:
        model: The model to train; the codes of learned codebooks receive gradients through z.
        tokens: A batch of training text.
        law: Which γ to show.
        generator: Source of γ and of the noise.
        first_label: The first token that is a label; 0 when there are none.

    Returns:
        The loss, in nats per token; 0 if every token happens to be known.
    """
    batch, length = tokens.shape
    snr = law.draw(batch, length, generator).to(tokens.device)
    if first_label:
        is_given = draw_uniform((batch, 1), generator).to(snr) >= UNLABELLED_SHARE
        label_snr = torch.zeros_like(snr).masked_fill(is_given, torch.inf)
        snr = torch.where(tokens >= first_label, label_snr, snr)
    nats = model.token_nats(tokens, snr, generator)
    return nats.sum() / snr.isfinite().sum().clamp(min=1)
