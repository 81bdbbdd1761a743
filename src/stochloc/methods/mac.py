"""MAC: a reduced set of conditionals (Shih et al. 2022, Any-order models the right way).

Any-order models learn the same law in many ways. MAC fixes how every set of tokens is decided: in
one order σ. A set e then needs only the conditionals `Q_θ(x_j | tokens of e before j in σ)`, so
what is to be learned is the law of a token given a set of earlier ones, whatever the set:

    x_e: draw |e| uniformly from 1 ... L, then e; show a uniformly drawn number of its first tokens;
    loss: cross-entropy of the hidden tokens,

drawn with weights 1 + (number shown), because conditionals on many tokens are asked for more often
when sets are scored (the paper's second point; the offset is that of the authors' code). Only what
lies behind the last token shown is needed; like the authors' code, the loss scores every hidden
token, which costs nothing more and leaves far more to learn from. The joint law is the chain in
that order,

    -log P(x) = Σ_k -log Q_θ(x_σ(k) | x_σ(1) ... x_σ(k-1)),

exact, at the cost of a call for each k: the network sees both ways, so none serves two places.

σ is the authors' order of text8, `spaced` (AndyShih12/mac, `README.md` and `lang_model.py`,
`mask_to_order`): places are told apart by their remainder r modulo 25, those with `0 < r < L // 25`
come first, the greatest r before the others, and then all the rest. (A comment there describes all
25 remainders; the code, for which the results stand, counts to `L // 25`.) Which of places with the
same key comes first, their sort leaves open; here it is the one further left. Their network is told
neither time nor order, nor is ours.
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
    """Return the places of a text in the authors' order of text8.

    Args:
        length: Tokens, L.

    Returns:
        A permutation of `0 ... L - 1`: the place that is decided first, second, and so on.
    """
    remainder = torch.arange(length) % SPACING
    key = remainder.where(remainder < length // SPACING, 0)
    return key.argsort(descending=True, stable=True)


class Mac(MaskFilling):
    """Autoregression, in one order, given any set of earlier tokens.

    Args:
        network: Returns logits of V tokens for sequences in which the token V stands for a mask.
        vocabulary_size: Number of tokens, V.
        order: Gives the order in which the places of a text are decided.
    """

    is_exact = True

    def __init__(self, network: MaskedNetwork, vocabulary_size: int, order: Order = spaced) -> None:
        super().__init__(network, vocabulary_size)
        self.order = order

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy of hidden tokens, nats per token; one call."""
        batch, length = tokens.shape
        is_hidden = ~draw_shown(batch, self.order(length), generator).to(tokens.device)
        return (self.masked_nats(tokens, is_hidden).sum(1) / is_hidden.sum(1)).mean()

    @torch.no_grad()
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return `-log P(x)` exactly; as many calls as tokens."""
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
        """Draw in the order; as many calls as tokens."""
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
        order: The places of a text in the order in which they are decided.
        generator: Source of randomness.

    Returns:
        Where a token is shown: the first tokens of a random set, with weights 1 + their number. The
        set's last token is never shown, so some token is hidden.
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
    # How many of the set's tokens come no later than each place.
    order = order.to(device)
    so_far = is_in_set[:, order].cumsum(1)[:, order.argsort()]
    return is_in_set & (so_far <= num_shown)
