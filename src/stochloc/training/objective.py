"""The training objective: cross-entropy of the true tokens given noisy ones (paper 3).

    loss = E_γ E_z [ mean over the targets of -log Q_θ(x_i | what is shown) ]

The minimiser is the true posterior, whose mean is the best denoiser, at every γ that training
reaches. The mean squared error would have the same minimiser for fixed codes, but lets learned
codes collapse to a point (paper B.1).

A network that is shown `z_i` has as targets the tokens that are not known. One that leaves it out
answers for `P(x_i|z_-i)`, which a known token asks for as well as an unknown one, so all tokens are
targets. What it is shown at target i is the state `(left_<i, right_>i)`, whose γ are those of the
left draw before i and of the right draw after it. For each i this is a state of the channel,
whatever the two draws are, because none of its tokens occurs on both sides; so by

    E_x E_z [-log Q(x_i|z_-i)] = E_z [ H(P(·|z_-i)) + KL(P(·|z_-i) ‖ Q(·|z_-i)) ]

every target has its minimum at the true leave-one-out posterior. The two draws decide only which
states are shown how often: with the left known and the right at γ = 0, those of a left-to-right
model. Adding the evidence, `Q(x_i|z) ∝ exp(z_i·x_i) Q(x_i|z_-i)`, then gives the true posterior.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.numerics import draw_uniform
from stochloc.nn import TargetNats
from stochloc.training.snr import SidedSnrLaw, SnrLaw, draw_sides

UNLABELLED_SHARE = 0.1


@runtime_checkable
class Trainable(Protocol):
    """A model that can be trained, whatever wraps it: see `LocalizationModel.token_nats`."""

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        snr: Float[Tensor, "batch length"],
        right_snr: Float[Tensor, "batch length"] | None,
        generator: torch.Generator,
    ) -> TargetNats:
        """Return the nats of every target at a drawn z."""
        ...


def cross_entropy(
    model: Trainable,
    tokens: Int[Tensor, "batch length"],
    law: SnrLaw | SidedSnrLaw,
    generator: torch.Generator,
    first_label: int = 0,
    boundary: int | None = None,
) -> Float[Tensor, ""]:
    """Return the average nats per target of a batch.

    Labels are a condition: given with all of a sequence or, one time in ten, with none of it, so
    that the same model learns `P(x|y)` and `P(x)`. Under the distribution of the other tokens a
    label would hardly ever be known where little else is.

    Args:
        model: The model to train; the codes of learned codebooks receive gradients through z.
        tokens: A batch of training text, -1 where there is no token.
        law: Which γ to show; one with sides of its own only to a two-sided model.
        generator: Source of γ and of the noise.
        first_label: The first token that is a label; 0 when there are none.
        boundary: The token at both ends of a sequence, which both sides always know; None where
            texts have no ends.

    Returns:
        The loss, in nats per target; 0 if there is none.
    """
    batch, length = tokens.shape
    left, right = draw_sides(law, batch, length, generator)
    left, right = left.to(tokens.device), None if right is None else right.to(tokens.device)
    if first_label:
        is_given = draw_uniform((batch, 1), generator).to(left) >= UNLABELLED_SHARE
        label_snr = torch.zeros_like(left).masked_fill(is_given, torch.inf)
        is_label = tokens >= first_label
        left = torch.where(is_label, label_snr, left)
        right = None if right is None else torch.where(is_label, label_snr, right)
    if boundary is not None:
        is_boundary = tokens == boundary
        left = left.masked_fill(is_boundary, torch.inf)
        right = None if right is None else right.masked_fill(is_boundary, torch.inf)
    nats, is_target = model.token_nats(tokens, left, right, generator)
    return nats.sum() / is_target.sum().clamp(min=1)
