"""MAC: a reduced set of conditionals (Shih et al. 2022, Any-order models the right way).

Any-order models represent the same distribution in many ways. MAC decides every set of tokens in
one order σ. A set e then needs only the conditionals `Q_θ(x_j | tokens of e before j in σ)`, so the
network learns the distribution of a token given any set of tokens before it in σ:

    x_e: draw |e| uniformly from 1 ... L, then e; show a uniformly drawn number of its first tokens;
    loss: cross-entropy of the hidden tokens,

drawn with weights 1 + (number shown), because scoring sets needs conditionals on many tokens more
often (the paper's second point; the offset is that of the authors' code). Only tokens after the
last one shown are needed; like the authors' code, the loss scores every hidden token, which costs
nothing and gives many more targets. The joint distribution follows from the chain rule in that
order,

    -log P(x) = Σ_k -log Q_θ(x_σ(k) | x_σ(1) ... x_σ(k-1)),

exact, at a cost of L calls: the network is bidirectional, so each call gives one conditional.

σ is the authors' order for text8, `spaced` (AndyShih12/mac, `README.md` and `lang_model.py`,
`mask_to_order`): places are grouped by their remainder r modulo 25; those with `0 < r < L // 25`
come first, largest r first, then all others. (A comment there describes all 25 remainders; the
code, which produced the results, counts to `L // 25`.) Their sort leaves the order within a group
open; here it is from left to right. Neither their network nor ours is conditioned on time or order.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core import Estimate
from stochloc.core.numerics import draw_categorical, in_double
from stochloc.core.paths.orders import random_ranks
from stochloc.methods.masked import MaskedNetwork, MaskFilling
from stochloc.methods.method import Drawn

SPACING = 25
Order = Callable[[int], Int[Tensor, " length"]]


def spaced(length: int) -> Int[Tensor, " length"]:
    """Return the places of a sequence in the authors' order for text8.

    Args:
        length: Tokens, L.

    Returns:
        A permutation of `0 ... L - 1`: the place that is decided first, second, and so on.
    """
    remainder = torch.arange(length) % SPACING
    key = remainder.where(remainder < length // SPACING, 0)
    return key.argsort(descending=True, stable=True)


class Mac(MaskFilling):
    """Autoregression in one fixed order, given any set of earlier tokens.

    Args:
        network: Returns logits of V tokens for sequences in which the token V stands for a mask.
        vocabulary_size: Number of tokens, V.
        order: Gives the order in which places are decided, for a length.
    """

    is_exact = True

    def __init__(self, network: MaskedNetwork, vocabulary_size: int, order: Order = spaced) -> None:
        super().__init__(network, vocabulary_size)
        self.order = order

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy in nats per hidden token; one call."""
        batch, length = tokens.shape
        is_hidden = ~draw_shown(batch, self.order(length), generator).to(tokens.device)
        return (self.masked_nats(tokens, is_hidden).sum(1) / is_hidden.sum(1)).mean()

    @torch.no_grad()
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return `-log P(x)` exactly; L calls."""
        nats = in_double(torch.zeros(tokens.shape, device=tokens.device))
        is_hidden = torch.ones_like(tokens, dtype=torch.bool)
        for place in self.order(tokens.shape[1]).tolist():
            nats[:, place] = in_double(self.masked_nats(tokens, is_hidden)[:, place])
            is_hidden[:, place] = False
        return Estimate(nats, tokens.shape[1])

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Draw the tokens in the fixed order; L calls."""
        tokens = torch.full((num_sequences, length), self.mask, device=generator.device)
        for place in self.order(length).tolist():
            probs = self.network(tokens, None)[:, place].softmax(-1)
            tokens[:, place] = draw_categorical(probs, generator)
        return Drawn(tokens, length)


def draw_shown(
    batch: int, order: Int[Tensor, " length"], generator: torch.Generator
) -> Bool[Tensor, "batch length"]:
    """Draw which tokens the network is shown in training.

    Args:
        batch: Number of sequences.
        order: The places in the order in which they are decided.
        generator: Source of randomness.

    Returns:
        Where a token is shown: the first tokens of a random set, with weights 1 + their number. The
        last token of the set is never shown, so at least one token is hidden.
    """
    device, length = generator.device, len(order)
    shown = torch.arange(length, device=device, dtype=torch.float64)
    sizes = shown[:, None] + 1
    # Jointly: a size s and, of its tokens, k < s to be shown, each 1/s, times the weight 1 + k.
    weights = ((1 + shown) / sizes).masked_fill(shown >= sizes, 0.0)
    pair = draw_categorical(weights.flatten().expand(batch, -1), generator)
    set_size, num_shown = pair[:, None] // length + 1, pair[:, None] % length
    everywhere = torch.ones(batch, length, dtype=torch.bool, device=device)
    is_in_set = random_ranks(everywhere, generator) < set_size
    # Number of tokens of the set up to and including each place, in the order.
    order = order.to(device)
    so_far = is_in_set[:, order].cumsum(1)[:, order.argsort()]
    return is_in_set & (so_far <= num_shown)
