"""Multinomial Diffusion (Hoogeboom et al. 2021, Argmax flows and multinomial diffusion).

The same kernel, posterior and bound as D3PM with uniform noise, found independently. What differs
is the training: no auxiliary loss, and steps drawn in proportion to `√E[L_k²]`, the root of the
mean square of their divergences so far, with weights that keep the loss unbiased. As in the
authors' code (ehoogeboom/multinomial_diffusion, `diffusion_multinomial.py`), steps are drawn
uniformly until each has been seen more than ten times, the squares are averaged with a decay of
0.9, and the first step, whose divergence is the cross-entropy of the text itself, is drawn as often
as the second. α is their cosine, the root of Nichol and Dhariwal's schedule.

Choices: the last step keeps a token with the probability the cosine says, theirs with √0.001 at
least; the bound draws steps where theirs sums all T, and those of it are not drawn by importance.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stochloc.core.numerics import draw_categorical
from stochloc.methods.d3pm import NUM_STEPS, D3pm
from stochloc.methods.kernels import uniform
from stochloc.methods.method import Frame
from stochloc.methods.schedules import ShiftedCosine
from stochloc.nn import token_network

DECAY = 0.9
SEEN_OFTEN = 10


class MultinomialDiffusion(D3pm):
    """Uniform noise in T steps, the hard steps drawn more often.

    Args:
        network: Returns logits of the V tokens, given tokens and time.
        vocabulary_size: Number of tokens, V.
        num_diffusion_steps: T.
    """

    mean_square: Tensor
    times_seen: Tensor

    def __init__(
        self, network: nn.Module, vocabulary_size: int, num_diffusion_steps: int = NUM_STEPS
    ) -> None:
        kernel = uniform(vocabulary_size)
        super().__init__(network, vocabulary_size, kernel, ShiftedCosine(), num_diffusion_steps)
        self.register_buffer("mean_square", torch.zeros(num_diffusion_steps, dtype=torch.float64))
        self.register_buffer("times_seen", torch.zeros(num_diffusion_steps, dtype=torch.long))

    @classmethod
    def from_frame(cls, frame: Frame) -> "MultinomialDiffusion":
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        size = frame.vocabulary_size
        return cls(token_network(size, size, frame.backbone, timed=True), size)

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return one step's divergence over the probability of the step; one call."""
        weights = torch.ones_like(self.mean_square)
        if bool((self.times_seen > SEEN_OFTEN).all()):
            weights = self.mean_square.sqrt() + 1e-4
            weights[0] = weights[1]
        probs = weights / weights.sum()
        index = draw_categorical(probs.to(generator.device).expand(len(tokens), -1), generator)
        index = index.to(tokens.device)
        nats, _ = self.step_nats(tokens, index + 1, generator)
        with torch.no_grad():
            square, before = nats.sum(-1).square().double(), self.mean_square[index]
            self.mean_square[index] = DECAY * before + (1 - DECAY) * square
            self.times_seen.index_add_(0, index, torch.ones_like(index))
        return (nats / probs[index][:, None] + self.fixed_nats(tokens)).mean()
