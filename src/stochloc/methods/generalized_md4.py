"""GenMD4: masked diffusion with a schedule for each token, learned (Shi et al. 2024, section 6).

Token v is still itself at time t with probability `α_v = 1 - t^(w_v)`. Masks now tell something of
what they hide, so the network is conditioned on the time. Reading the reverse process as jumps from
the mask to v at the rate `r_v = w_v/t`, the model's rate is `μ_v r_v` with μ the network's law of
the masked token, and the divergence of the two jump processes is

    -log P(x) <= ∫₀¹ E Σ_masked [ -r_x log μ_x - r_x + Σ_v μ_v r_v ] dt.

The weights w are learned with the network. Which tokens are masked depends on them, so the
gradient has a second part, which the paper and we estimate by REINFORCE leave-one-out: two draws of
the masks at the same time, each the baseline of the other,

    ∇E f = E ½ [ ∇(f₁ + f₂) + (f₁ - f₂) ∇(log q₁ - log q₂) ].

An update therefore costs two network calls: 2.3 times a plain encoder's, by
`benchmarks/methods.py`. `w = 1` at the start, the linear schedule. Times of training begin at 1e-3
(google-deepmind/md4, `models/diffusion/genmd4.py`: `t1`); the bound covers all times, and they
crowd at 0 the more the smaller the least w of a sequence.

Choices: w is the exponential of what is learned, theirs its softplus; the sampler's times are
even, the bound has no reconstruction term, because no times are left out of it.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from stochloc.core.numerics import draw_categorical, draw_uniform, in_double
from stochloc.methods.masked import WithPrior
from stochloc.methods.method import Drawn, Frame
from stochloc.methods.time_integral import SOONEST, TimeIntegral
from stochloc.nn import token_network


class _Masking(NamedTuple):
    """Masks drawn at a time, what they cost, and their log-probability."""

    nats: Float[Tensor, "batch length"]
    log_prob: Float[Tensor, " batch"]


class GeneralizedMd4(TimeIntegral):
    """Masked diffusion in which frequent tokens may be masked sooner or later than rare ones.

    Args:
        network: Returns logits of V tokens for sequences with masks, the token V, and a time.
        vocabulary_size: Number of tokens, V.
    """

    earliest = 1e-3

    def __init__(self, network: nn.Module, vocabulary_size: int) -> None:
        super().__init__()
        self.network, self.mask = network, vocabulary_size
        self.log_weights = nn.Parameter(torch.zeros(vocabulary_size))

    @classmethod
    def from_frame(cls, frame: Frame) -> "GeneralizedMd4":
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        size = frame.vocabulary_size
        return cls(token_network(size + 1, size, frame.backbone, timed=True), size)

    @classmethod
    def with_prior(cls, frame: Frame) -> "GeneralizedMd4":
        """Return the method with token frequencies added to its logits, as ours has them.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        method = cls.from_frame(frame)
        method.network = WithPrior(method.network, frame.counts)
        return method

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the bound at one time for each sequence, with its whole gradient; two calls."""
        time = self.training_times(tokens, generator)
        first, second = (self._masked(tokens, time, generator) for _ in range(2))
        values = (first.nats + second.nats).sum(-1) / 2
        advantage = (first.nats - second.nats).sum(-1).detach() / 2
        log_odds = first.log_prob - second.log_prob
        # Worth 0, but with the gradient of the masks' probability.
        correction = advantage * (log_odds - log_odds.detach())
        return (values + correction).mean() / tokens.shape[1]

    def crowding(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Return half the least w of each sequence's tokens, at most 1."""
        weights = in_double(self.log_weights.detach().exp())
        return (weights[tokens.to(weights.device)].amin(-1) / 2).clamp(max=1.0)

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return the divergence of the rates at which masked tokens come back."""
        return self._masked(tokens, time, generator).nats

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Reveal tokens in N steps of equal time, each at its own rate; N network calls."""
        times = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64, device=generator.device)
        tokens = torch.full((num_sequences, length), self.mask, device=generator.device)
        weights = in_double(self.log_weights.exp()).to(generator.device)
        for later, earlier in pairwise(times):
            law = self._law(tokens, later.expand(num_sequences)).exp()
            stays = (earlier / later) ** weights
            probs = torch.cat([law * (1 - stays), (law * stays).sum(-1, keepdim=True)], -1)
            drawn = draw_categorical(probs, generator)
            tokens = torch.where(tokens == self.mask, drawn, tokens)
        return Drawn(tokens, num_steps)

    def _masked(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> _Masking:
        weights = in_double(self.log_weights.exp())
        log_hidden = weights[tokens] * in_double(time).clamp(min=SOONEST).log()[:, None]
        u = draw_uniform(tuple(tokens.shape), generator).to(log_hidden)
        is_masked = u < log_hidden.exp()
        nats = self.divergence_nats(tokens, is_masked, time)
        # -expm1 keeps the probability of a token that is hardly ever masked from rounding to 1.
        shown = torch.log(-torch.expm1(log_hidden))
        return _Masking(nats, torch.where(is_masked, log_hidden, shown).sum(-1))

    def divergence_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        is_masked: Bool[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch length"]:
        """Return what `token_nats` does, for given masks.

        Args:
            tokens: The true tokens.
            is_masked: Which of them are masked.
            time: When.

        Returns:
            Nats of every token.
        """
        weights = in_double(self.log_weights.exp())
        log_law = self._law(tokens.masked_fill(is_masked, self.mask), time)
        rates = weights / time[:, None, None]
        rate = rates.expand_as(log_law).gather(-1, tokens[..., None])[..., 0]
        own = log_law.gather(-1, tokens[..., None])[..., 0]
        return (-rate * (own + 1) + (log_law.exp() * rates).sum(-1)) * is_masked

    def _law(
        self, tokens: Int[Tensor, "batch length"], time: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        return in_double(self.network(tokens, time)).log_softmax(-1)
