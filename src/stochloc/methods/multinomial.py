"""Multinomial Diffusion (Hoogeboom et al. 2021, Argmax flows and multinomial diffusion).

Kernel, posterior and bound are those of D3PM with uniform noise, found independently. Training
differs: there is no auxiliary loss, and steps are drawn in proportion to `√E[L_k²]`, the root mean
square of their past divergences, with weights that keep the loss unbiased. As in the authors' code
(ehoogeboom/multinomial_diffusion, `diffusion_multinomial.py`), steps are drawn uniformly until each
has been drawn more than ten times, the squares are averaged with a decay of 0.9, and the first
step, whose divergence is the cross-entropy of the text itself, is drawn as often as the second. α
is their cosine, the square root of Nichol and Dhariwal's schedule.

Our choices: in the last step a token is kept with the probability given by the cosine, in theirs
with at least √0.001; the bound draws steps, stratified, where theirs sums over all T.
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
MIN_DRAWS = 10


class MultinomialDiffusion(D3pm):
    """Uniform noise in T steps; steps of large divergence are drawn more often.

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
        """Return the untrained method with a network conditioned on the step."""
        size = frame.vocabulary_size
        return cls(token_network(size, size, frame.backbone, timed=True), size)

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return one step's divergence divided by the probability of the step; one call."""
        weights = torch.ones_like(self.mean_square)
        if bool((self.times_seen > MIN_DRAWS).all()):
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
