"""ARDM: autoregression in random order (Hoogeboom et al. 2022, Autoregressive diffusion models).

    -log P(x) <= E_σ[ Σ_k -log Q_θ(x_σ(k)|x_σ(<k)) ]
              = L E_k E_σ[ 1/(L-k) Σ_{j not among the first k} -log Q_θ(x_j|x_σ(<=k)) ]

with k, the number of tokens seen, uniform on 0 ... L-1: one call scores every token that may come
next. This is the bound of masked diffusion with the time counted in tokens, so the two agree.

The network is not conditioned on k. The authors' architecture can be, but their code for text8 is
not (google-research, `autoregressive_diffusion/experiments/language/train.py` builds the
transformer with `condition_time` at its default, False). Our choices: k is stratified over the
batch, theirs is drawn independently (`elbo_mode = "uniform"`); their extra term of 1e-4 times the
plain cross-entropy (`configs/default.py`: `ce_term`) is left out.

The sampler reveals tokens in random order, in N groups of nearly equal size. With N = L it draws
from the model's distribution; with fewer, the tokens of a group are drawn independently. (The paper
also chooses the groups by dynamic programming; `stochloc tune` does that for our own walks.)
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.numerics import draw_categorical
from stochloc.core.paths.orders import random_ranks
from stochloc.methods.masked import MaskFilling
from stochloc.methods.method import Drawn
from stochloc.methods.time_integral import TimeIntegral


class AnyOrder(MaskFilling, TimeIntegral):
    """Autoregression in an order that is drawn anew for every sequence."""

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return `L/(L-k)` times the cross-entropy of the tokens that are not among the first k."""
        length = tokens.shape[1]
        num_seen = (time * length).long()[:, None].clamp(max=length - 1)
        is_masked = random_ranks(torch.ones_like(tokens).bool(), generator) >= num_seen
        return self.masked_nats(tokens, is_masked) * (length / (length - num_seen))

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Reveal tokens in random order in N groups; N network calls, at most one a token."""
        tokens = torch.full((num_sequences, length), self.mask, device=generator.device)
        ranks, groups = random_ranks(tokens == self.mask, generator), min(num_steps, length)
        for n in range(groups):
            probs = self.network(tokens, None).softmax(-1)
            first, last = n * length // groups, (n + 1) * length // groups
            revealed = (ranks >= first) & (ranks < last)
            tokens = torch.where(revealed, draw_categorical(probs, generator), tokens)
        return Drawn(tokens, groups)
