"""MAC: a reduced set of conditionals (Shih et al. 2022, Any-order models the right way).

Any-order models learn the same law in many ways. MAC fixes how every set of tokens is decided: in
natural order. A set e then needs only the conditionals `Q_θ(x_j | tokens of e before j)`, so what
is to be learned is the law of a token given a set of earlier ones, whatever the set:

    x_e: draw |e| uniformly from 1 ... L, then e; show a uniformly drawn number of its first tokens;
    loss: cross-entropy of the hidden tokens,

drawn with weights 1 + (number shown), because conditionals on many tokens are asked for more often
when sets are scored (the paper's second point; the offset is that of the authors' code). Only what
lies behind the last token shown is needed; like the authors' code, the loss scores every hidden
token, which costs nothing more and leaves far more to learn from. The joint law is the chain in
natural order,

    -log P(x) = Σ_i -log Q_θ(x_i | x_1 ... x_{i-1}),

exact, at the price of a call for each i: the network sees both ways, so none serves two places.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core import Estimate
from stochloc.core.numerics import draw_categorical, in_double
from stochloc.core.orders import random_ranks
from stochloc.rivals.masked import MaskFilling
from stochloc.rivals.rival import Drawn


class Mac(MaskFilling):
    """Autoregression given any set of earlier tokens."""

    is_exact = True

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy of hidden tokens, nats per token; one call."""
        batch, length = tokens.shape
        is_hidden = ~draw_shown(batch, length, generator).to(tokens.device)
        return (self.masked_nats(tokens, is_hidden).sum(1) / is_hidden.sum(1)).mean()

    @torch.no_grad()
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return `-log P(x)` exactly; as many calls as tokens."""
        length = tokens.shape[1]
        place = torch.arange(length, device=tokens.device)
        nats = [
            self.masked_nats(tokens, (place >= i).expand_as(tokens))[:, i] for i in range(length)
        ]
        return Estimate(in_double(torch.stack(nats, 1)), length)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Draw in natural order; as many calls as tokens."""
        tokens = torch.full((num_sequences, length), self.mask, device=generator.device)
        for i in range(length):
            probs = self.network(tokens)[:, i].softmax(-1)
            tokens[:, i] = draw_categorical(probs, generator)
        return Drawn(tokens, length)


def draw_shown(batch: int, length: int, generator: torch.Generator) -> Bool[Tensor, "batch length"]:
    """Draw which tokens the network is shown in training.

    Args:
        batch: Number of sequences.
        length: Tokens of each.
        generator: Source of randomness.

    Returns:
        Where a token is shown: the first tokens of a random set, with weights 1 + their number. The
        set's last token is never shown, so some token is hidden.
    """
    device = generator.device
    shown = torch.arange(length, device=device, dtype=torch.float64)
    sizes = shown[:, None] + 1
    # Jointly: a size s and, of its tokens, k < s to be shown, each 1/s, times the weight 1 + k.
    weights = ((1 + shown) / sizes).masked_fill(shown >= sizes, 0.0)
    pair = draw_categorical(weights.flatten().expand(batch, -1), generator)
    set_size, num_shown = pair[:, None] // length + 1, pair[:, None] % length
    everywhere = torch.ones(batch, length, dtype=torch.bool, device=device)
    is_in_set = random_ranks(everywhere, generator) < set_size
    return is_in_set & (is_in_set.cumsum(1) <= num_shown)
