"""Networks that fill in masks, and masked diffusion in continuous time (MDLM, MD4).

At time t a token is visible with probability α(t) and masked otherwise. With `Q_θ(x_i|x_t)` the
network's distribution of a masked token,

    -log P(x) <= ∫₀¹ -α'/(1-α) E[ Σ_masked -log Q_θ(x_i|x_t) ] dt,

the same value for every schedule, because the time only determines how many tokens are masked. The
true distribution of a masked token does not depend on the time, so conditioning on it is optional:
networks are conditioned where the authors' networks for text8 are (MD4, D3PM, SEDD), and not where
theirs are not (MDLM, ARDM, MAC). The network has no output for the mask (MDLM's zero-masking) and
predicts masked tokens only (carry-over).

The sampler goes back in N steps from time t to s: each masked token is revealed with probability
`(α_s - α_t)/(1 - α_t)`, drawn in float64 from the network's distribution. A network that is not
conditioned on the time is called again only after some token has changed (MDLM's cache).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core.numerics import draw_categorical, draw_uniform
from stochloc.methods.method import Drawn, Frame, Method
from stochloc.methods.schedules import Linear, Schedule, even_grid, revealing_rate
from stochloc.methods.time_integral import TimeIntegral
from stochloc.nn import Network, smoothed_log_unigram, token_network

MaskedNetwork = Callable[
    [Int[Tensor, "batch length"], Float[Tensor, " batch"] | None],
    Float[Tensor, "batch length vocabulary"],
]
TimeGrid = Callable[[int], Float[Tensor, " times"]]


def masked_network(frame: Frame, timed: bool = False) -> Network:
    """Return a bidirectional network that reads tokens and masks, the token V.

    Args:
        frame: Gives vocabulary and backbone.
        timed: Whether the network is conditioned on the time.

    Returns:
        The network, whose outputs are logits of the V tokens.
    """
    size = frame.vocabulary_size
    return token_network(size + 1, size, frame.backbone, timed=timed)


class WithPrior(nn.Module):
    """A network whose logits are added to the logarithms of the token frequencies.

    Args:
        network: Returns logits of V tokens.
        counts: How often each token occurs.
    """

    def __init__(self, network: nn.Module, counts: Int[Tensor, " vocabulary"]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("log_unigram", smoothed_log_unigram(counts).float())
        self.log_unigram: Tensor

    def forward(self, *inputs: Tensor | None) -> Float[Tensor, "batch length vocabulary"]:
        """Return the network's logits plus the log-frequencies."""
        return self.network(*inputs) + self.log_unigram


class MaskFilling(Method):
    """A method whose network returns the distribution of masked tokens given the others.

    Args:
        network: Returns logits of V tokens for sequences in which the token V stands for a mask,
            and a time.
        vocabulary_size: Number of tokens, V.

    Attributes:
        is_timed: Whether the network is conditioned on the time, as the authors' for text8 is.
    """

    is_timed: ClassVar[bool] = False

    def __init__(self, network: MaskedNetwork, vocabulary_size: int) -> None:
        super().__init__()
        self.network, self.mask = network, vocabulary_size

    @classmethod
    def from_frame(cls, frame: Frame) -> "MaskFilling":
        """Return the untrained method with a masked network."""
        return cls(masked_network(frame, cls.is_timed), frame.vocabulary_size)

    def masked_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        is_masked: Bool[Tensor, "batch length"],
        time: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch length"]:
        """Return `-log Q_θ(x_i|x_t)` of masked tokens.

        Args:
            tokens: The true tokens.
            is_masked: Which of them the network sees as masks.
            time: The time, for a network that is conditioned on it.

        Returns:
            Nats; 0 where the token is not masked.
        """
        logits = self.network(tokens.masked_fill(is_masked, self.mask), time)
        targets = tokens.masked_fill(~is_masked, -100)
        return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


class MaskedDiffusion(MaskFilling, TimeIntegral):
    """Masked diffusion along a schedule.

    Args:
        network: As for `MaskFilling`.
        vocabulary_size: Number of tokens, V.
        schedule: Gives α(t), 1 at time 0 and 0 at time 1; None for the linear schedule.
        grid: Gives the times of the sampler's steps, from 1 to 0.
    """

    time_exponent: ClassVar[float] = 0.5

    def __init__(
        self,
        network: MaskedNetwork,
        vocabulary_size: int,
        schedule: Schedule | None = None,
        grid: TimeGrid = even_grid,
    ) -> None:
        super().__init__(network, vocabulary_size)
        self.schedule = Linear() if schedule is None else schedule
        self.grid = grid

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return the cross-entropy of masked tokens times the rate of revealing them."""
        nats = self.masked_nats(tokens, self.draw_masks(tokens, time, generator), time)
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
            Masks, each with probability `1 - α(t)`.
        """
        alpha = self.schedule.alpha(time)[:, None]
        return draw_uniform(tuple(tokens.shape), generator).to(alpha) >= alpha

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Reveal tokens in N steps along the grid; N calls, or fewer if `is_timed` is false."""
        times = self.grid(num_steps)
        alphas = self.schedule.alpha(times)
        shape = (num_sequences, length)
        tokens = torch.full(shape, self.mask, device=generator.device)
        probs, calls = torch.empty(0), 0
        is_stale = True
        for time, (alpha_t, alpha_s) in zip(times, pairwise(alphas), strict=False):
            if is_stale or self.is_timed:
                times_now = time.float().to(tokens.device).expand(num_sequences)
                probs, calls = self.network(tokens, times_now).softmax(-1), calls + 1
            share = (alpha_s - alpha_t) / (1 - alpha_t)
            revealed = (tokens == self.mask) & (draw_uniform(shape, generator) < share)
            tokens = torch.where(revealed, draw_categorical(probs, generator), tokens)
            is_stale = bool(revealed.any())
        return Drawn(tokens, calls)
