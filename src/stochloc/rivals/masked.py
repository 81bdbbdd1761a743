"""Networks that fill in masks, and masked diffusion in continuous time (MDLM, MD4).

A token is itself at time t with probability α(t) and masked otherwise. With `Q_θ(x_i|x_t)` the
network's law of a masked token,

    -log P(x) <= ∫₀¹ -α'/(1-α) E[ Σ_masked -log Q_θ(x_i|x_t) ] dt,

the same number for every schedule, because the time only counts how many tokens are masked. The
true law depends on no time, so the network is told none. It has no output for the mask (MDLM's
zero-masking) and is asked about masked tokens only (carry-over).

The sampler goes back in N steps from time t to s: each masked token is revealed with probability
`(α_s - α_t)/(1 - α_t)`, drawn in float64 from the network's law, which is asked again only if some
token has changed (MDLM's cache).
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core.numerics import draw_categorical, draw_uniform
from stochloc.nn import Network, smoothed_log_unigram, token_network
from stochloc.rivals.rival import Drawn, Frame, Rival
from stochloc.rivals.schedules import Linear, Schedule, revealing_rate
from stochloc.rivals.time_integral import TimeIntegral

MaskedNetwork = Callable[[Int[Tensor, "batch length"]], Float[Tensor, "batch length vocabulary"]]


def masked_network(frame: Frame) -> Network:
    """Return a network that reads tokens or masks, the token V, and scores the V tokens.

    Args:
        frame: Gives vocabulary and backbone.

    Returns:
        The network, bidirectional, told no time.
    """
    return token_network(frame.vocabulary_size + 1, frame.vocabulary_size, frame.backbone)


class WithPrior(nn.Module):
    """A network whose outputs are added to the logarithms of token frequencies.

    Args:
        network: Returns logits of V tokens.
        counts: How often each token occurs.
    """

    def __init__(self, network: nn.Module, counts: Int[Tensor, " vocabulary"]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("log_unigram", smoothed_log_unigram(counts).float())
        self.log_unigram: Tensor

    def forward(self, *inputs: Tensor) -> Float[Tensor, "batch length vocabulary"]:
        """Return the network's logits, the frequencies added."""
        return self.network(*inputs) + self.log_unigram


class MaskFilling(Rival):
    """A method whose network returns the law of hidden tokens, given the others.

    Args:
        network: Returns logits of V tokens for sequences in which the token V stands for a mask.
        vocabulary_size: Number of tokens, V.
    """

    def __init__(self, network: MaskedNetwork, vocabulary_size: int) -> None:
        super().__init__()
        self.network, self.mask = network, vocabulary_size

    @classmethod
    def from_frame(cls, frame: Frame) -> "MaskFilling":
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        return cls(masked_network(frame), frame.vocabulary_size)

    def masked_nats(
        self, tokens: Int[Tensor, "batch length"], is_masked: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length"]:
        """Return `-log Q_θ(x_i|x_t)` of masked tokens.

        Args:
            tokens: The true tokens.
            is_masked: Which of them are hidden from the network.

        Returns:
            Nats; 0 where the token is not masked.
        """
        logits = self.network(tokens.masked_fill(is_masked, self.mask))
        targets = tokens.masked_fill(~is_masked, -100)
        return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


class MaskedDiffusion(MaskFilling, TimeIntegral):
    """Masked diffusion along a schedule.

    Args:
        network: Returns logits of V tokens for sequences in which the token V stands for a mask.
        vocabulary_size: Number of tokens, V.
        schedule: Gives α(t), 1 at time 0 and 0 at time 1; linear unless one is given.
    """

    def __init__(
        self, network: MaskedNetwork, vocabulary_size: int, schedule: Schedule | None = None
    ) -> None:
        super().__init__(network, vocabulary_size)
        self.schedule = Linear() if schedule is None else schedule

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return the cross-entropy of masked tokens times the rate at which they come back."""
        nats = self.masked_nats(tokens, self.draw_masks(tokens, time, generator))
        return nats * revealing_rate(self.schedule, time)[:, None].to(nats)

    def draw_masks(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Bool[Tensor, "batch length"]:
        """Draw which tokens are masked.

        Args:
            tokens: The true tokens.
            time: A time of every sequence, in `[0, 1)`.
            generator: Source of the noise.

        Returns:
            Each with probability `1 - α(t)`.
        """
        alpha = self.schedule.alpha(time)[:, None]
        return draw_uniform(tuple(tokens.shape), generator).to(alpha) >= alpha

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Reveal tokens in N steps of equal time; at most N network calls."""
        times = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
        alphas = self.schedule.alpha(times)
        shape = (num_sequences, length)
        tokens = torch.full(shape, self.mask, device=generator.device)
        probs, calls = torch.empty(0), 0
        is_stale = True
        for alpha_t, alpha_s in pairwise(alphas):
            if is_stale:
                probs, calls = self.network(tokens).softmax(-1), calls + 1
            share = (alpha_s - alpha_t) / (1 - alpha_t)
            revealed = (tokens == self.mask) & (draw_uniform(shape, generator) < share)
            tokens = torch.where(revealed, draw_categorical(probs, generator), tokens)
            is_stale = bool(revealed.any())
        return Drawn(tokens, calls)
