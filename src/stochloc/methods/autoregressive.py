"""The autoregressive transformer, the reference method (Table 1, "Transformer AR").

    -log P(x) = Σ_i -log Q_θ(x_i | x_1 ... x_{i-1})

A causal network reads a start token and the text and scores the next token at all places at once,
so the likelihood is exact and costs one call; sampling costs one call per token.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core.numerics import draw_categorical
from stochloc.methods.likelihood import CausalNetwork, Likelihood
from stochloc.methods.method import Drawn, Frame
from stochloc.nn import token_network


class Autoregressive(Likelihood):
    """Left to right, one token at a time.

    Args:
        network: Returns logits of the token after each place; its input has V tokens and the start
            token V.
        vocabulary_size: Number of tokens, V.
    """

    def __init__(self, network: CausalNetwork, vocabulary_size: int) -> None:
        super().__init__()
        self.network, self.start = network, vocabulary_size

    @classmethod
    def from_frame(cls, frame: Frame) -> "Autoregressive":
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        size = frame.vocabulary_size
        return cls(token_network(size + 1, size, frame.backbone, causal=True), size)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Draw token by token; L calls, each for one place."""
        token = torch.full((num_sequences,), self.start, device=generator.device)
        text, past = [], []
        for _ in range(length):
            logits, past = self.network.extend(token[:, None], past)
            token = draw_categorical(logits[:, 0].softmax(-1), generator)
            text.append(token)
        return Drawn(torch.stack(text, 1), length)

    def token_nats(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return `-log P(x_i | x_1 ... x_{i-1})` of every token; one call."""
        before = F.pad(tokens[:, :-1], (1, 0), value=self.start)
        return F.cross_entropy(self.network(before).transpose(1, 2), tokens, reduction="none")
