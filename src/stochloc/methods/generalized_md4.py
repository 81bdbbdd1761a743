"""GenMD4: masked diffusion with a schedule for each token, learned (Shi et al. 2024, section 6).

Token v is still visible at time t with probability `α_v = 1 - t^(w_v)`. A mask now carries
information about its token, so the network is conditioned on the time. In the reverse process the
mask jumps to the true token x at the rate `r_x`, with `r_v = w_v/t`. The model's rates are
`μ_v r_v`, with μ the network's distribution of the masked token, and the divergence of the two jump
processes is

    -log P(x) <= ∫₀¹ E Σ_masked [ -r_x log μ_x - r_x + Σ_v μ_v r_v ] dt.

The exponents w are learned with the network. The distribution of the masks depends on them, so the
gradient has a second part, estimated as in the paper by REINFORCE leave-one-out: two draws of the
masks at the same time, each the baseline of the other,

    ∇E f = E ½ [ ∇(f₁ + f₂) + (f₁ - f₂) ∇(log q₁ - log q₂) ].

An update therefore takes two network calls and costs 2.3 times that of a plain encoder
(`benchmarks/methods.py`). Initially `w = 1`, the linear schedule. Training times begin at 1e-3
(google-deepmind/md4, `models/diffusion/genmd4.py`: `t1`). The bound covers all times, so it
has no reconstruction term; the exponent q of its times (`time_integral`) is half the smallest w of
the sequence. Our choices: w is the exponential of the parameter, theirs its softplus; the sampler's
times are evenly spaced.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from stochloc.core.numerics import draw_categorical, draw_uniform, in_double
from stochloc.methods.masked import WithPrior, masked_network
from stochloc.methods.method import Drawn, Frame
from stochloc.methods.schedules import even_grid
from stochloc.methods.time_integral import EARLIEST_TIME, TimeIntegral


class _Masking(NamedTuple):
    """The cost of drawn masks and their log-probability."""

    nats: Float[Tensor, "batch length"]
    log_prob: Float[Tensor, " batch"]


class GeneralizedMd4(TimeIntegral):
    """Masked diffusion with a learned masking schedule for each token.

    Args:
        network: Returns logits of V tokens for sequences with masks, the token V, and a time.
        vocabulary_size: Number of tokens, V.
    """

    earliest = 1e-3
    held = 13.0

    def __init__(self, network: nn.Module, vocabulary_size: int) -> None:
        super().__init__()
        self.network, self.mask = network, vocabulary_size
        self.log_weights = nn.Parameter(torch.zeros(vocabulary_size))

    @classmethod
    def from_frame(cls, frame: Frame) -> "GeneralizedMd4":
        """Return the untrained method with the linear schedule."""
        return cls(masked_network(frame, timed=True), frame.vocabulary_size)

    @classmethod
    def with_prior(cls, frame: Frame) -> "GeneralizedMd4":
        """Return the untrained method with log token frequencies added to its logits."""
        method = cls.from_frame(frame)
        method.network = WithPrior(method.network, frame.counts)
        return method

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the bound at one time for each sequence, with its full gradient; two calls."""
        time = self.training_times(tokens, generator)
        first, second = (self._masked(tokens, time, generator) for _ in range(2))
        values = (first.nats + second.nats).sum(-1) / 2
        advantage = (first.nats - second.nats).sum(-1).detach() / 2
        log_odds = first.log_prob - second.log_prob
        # Its value is 0; its gradient is the second part, that of the masks' probability.
        correction = advantage * (log_odds - log_odds.detach())
        return (values + correction).mean() / tokens.shape[1]

    def time_exponents(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Return half the smallest w among each sequence's tokens, at most 1."""
        weights = in_double(self.log_weights.detach().exp())
        return (weights[tokens.to(weights.device)].amin(-1) / 2).clamp(max=1.0)

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return the divergence of the rates at which masked tokens are revealed."""
        return self._masked(tokens, time, generator).nats

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Reveal tokens in N even steps, each at its own rate; N network calls."""
        times = even_grid(num_steps).to(generator.device)
        tokens = torch.full((num_sequences, length), self.mask, device=generator.device)
        weights = in_double(self.log_weights.exp()).to(generator.device)
        for later, earlier in pairwise(times):
            shown = self._log_probs(tokens, later.expand(num_sequences)).exp()
            stays = (earlier / later) ** weights
            probs = torch.cat([shown * (1 - stays), (shown * stays).sum(-1, keepdim=True)], -1)
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
        log_hidden = weights[tokens] * in_double(time).clamp(min=EARLIEST_TIME).log()[:, None]
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
            time: The time of every sequence.

        Returns:
            Nats of every token.
        """
        weights = in_double(self.log_weights.exp())
        log_probs = self._log_probs(tokens.masked_fill(is_masked, self.mask), time)
        rates = weights / time[:, None, None]
        rate = rates.expand_as(log_probs).gather(-1, tokens[..., None])[..., 0]
        own = log_probs.gather(-1, tokens[..., None])[..., 0]
        return (-rate * (own + 1) + (log_probs.exp() * rates).sum(-1)) * is_masked

    def _log_probs(
        self, tokens: Int[Tensor, "batch length"], time: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        return in_double(self.network(tokens, time)).log_softmax(-1)
