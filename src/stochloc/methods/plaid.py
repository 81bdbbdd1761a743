"""Plaid: Gaussian diffusion of learned embeddings (Gulrajani and Hashimoto 2023).

    z_t = α x + σ ε,    α² = sigmoid(-g(t)),  σ² = sigmoid(g(t)),    x a unit vector e_v,

with g, minus the logarithm of the SNR, rising from g_0 to g_1. With `ν = α²/σ²`,

    -log P(x) <= E[-log Q(x|z_0)] + ½ ∫₀¹ -ν'(t) E‖x - x̂‖² dt + D( q(z_1|x) ‖ N(0, 1) ).

Everything the paper adds to VDM is here: embeddings trained by the bound; an *output prior*, the
exact evidence `α/σ² z·e_v` of the token's own code, added to the logits; *categorical
reparametrisation*, `x̂ = softmax(logits) E`; *self-conditioning*, x̂ of a first pass as input of a
second, for every fourth sequence in training and always in evaluation; a *learned schedule*, whose
ends minimise the bound and whose interior minimises the variance of its estimate. As in the
authors' code the network sees z at unit variance, self-conditioned sequences train neither
embeddings nor schedule, and these learn seven times as fast as the network. (Adam moves every
parameter equally far: ends and interior are seven times their parameters, and embeddings are the
directions of vectors of length one seventh.)

Our choices: the interior is piecewise linear (theirs: a monotone network); the reconstruction gets
an eighth of the batch (theirs adapts); the evidence has full weight from the start (theirs grows
over the first 5 %). Since `∇ loss² = 2 loss ∇ loss`, one backward pass gives both gradients: a hook
multiplies that of the interior. As in theirs (igul222/plaid, `train.py`: `weight_decays`),
embeddings are not decayed.

Sampling: N - 1 ancestral steps of VDM, each conditioned on the previous x̂, then a draw from the
last posterior.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core import Estimate
from stochloc.core.numerics import (
    draw_categorical,
    draw_normal_like,
    draw_stratified,
    draw_uniform,
    in_double,
)
from stochloc.methods.method import Drawn, Frame, Method
from stochloc.methods.time_integral import draw_evaluation_times
from stochloc.nn import Network

DIMENSION = 16
ENDS = (-3.0, 6.0)
NUM_PIECES = 64
CONDITIONED_EVERY = 4
RECONSTRUCTED_SHARE = 1 / 8
# Learning rate of embeddings and schedule over that of the network: 1e-2 over 1.4e-3.
SPEED = 7.0
# The network's input for g is scaled by this range, whatever the ends of the schedule become.
G_RANGE = (-12.0, 12.0)

Codes = Float[Tensor, "batch length dim"]
CodeNetwork = Callable[
    [Float[Tensor, "batch length inputs"], Float[Tensor, " batch"]],
    Float[Tensor, "batch length vocabulary"],
]


class Level(NamedTuple):
    """The noise at a time.

    Attributes:
        g: Minus the logarithm of the SNR, of every sequence.
        slope: Its derivative with respect to time.
    """

    g: Float[Tensor, " batch"]
    slope: Float[Tensor, " batch"]

    @property
    def alpha(self) -> Float[Tensor, "batch 1 1"]:
        """Coefficient of the code in z."""
        return torch.sigmoid(-self.g).sqrt()[:, None, None]

    @property
    def sigma(self) -> Float[Tensor, "batch 1 1"]:
        """Coefficient of the noise in z."""
        return torch.sigmoid(self.g).sqrt()[:, None, None]

    def frozen(self, rows: Bool[Tensor, " batch"]) -> "Level":
        """Return the same noise level, without gradient in the given sequences."""
        return Level(_frozen(self.g, rows), _frozen(self.slope, rows))


class LearnedSchedule(nn.Module):
    """g(t), an increasing piecewise linear function between two learned ends."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_ends = nn.Parameter(torch.tensor(ENDS) / SPEED)
        self.slow_log_rises = nn.Parameter(torch.zeros(NUM_PIECES))

    def interior(
        self, time: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Return the share of its rise that g has completed, and the derivative of that share.

        Args:
            time: Times, in `[0, 1]`.

        Returns:
            Shares in `[0, 1]`, and their derivatives.
        """
        rises = (SPEED * self.slow_log_rises).softmax(0)
        before = rises.cumsum(0) - rises
        piece = (time * NUM_PIECES).long().clamp(0, NUM_PIECES - 1)
        within = (time * NUM_PIECES - piece).to(rises)
        return before[piece] + within * rises[piece], NUM_PIECES * rises[piece]

    def level(self, interior: tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]) -> Level:
        """Return the noise level, given the interior at a time."""
        first, last = SPEED * self.slow_ends
        return Level(first + (last - first) * interior[0], (last - first) * interior[1])


class Plaid(Method):
    """Gaussian diffusion of learned embeddings, with all components of the paper.

    Args:
        network: Returns logits without the output prior, given z at unit variance concatenated
            with √d times a previous x̂, `(B, L, 2 d)`, and g scaled to `[0, 1]`.
        vocabulary_size: Number of tokens, V.
        dimension: Dimension d of the embeddings.
    """

    held = 6.2

    def __init__(
        self, network: CodeNetwork, vocabulary_size: int, dimension: int = DIMENSION
    ) -> None:
        super().__init__()
        self.network = network
        start = F.normalize(torch.randn(vocabulary_size, dimension), dim=-1)
        self.embeddings = nn.Parameter(start / SPEED)
        self.schedule = LearnedSchedule()

    @classmethod
    def from_frame(cls, frame: Frame) -> "Plaid":
        """Return the untrained method with a network conditioned on the noise level."""
        embedding = nn.Linear(2 * DIMENSION, frame.backbone.width)
        nn.init.normal_(embedding.weight[:, :DIMENSION], std=DIMENSION**-0.5)
        nn.init.zeros_(embedding.weight[:, DIMENSION:])
        network = Network(embedding, frame.vocabulary_size, frame.backbone, timed=True)
        return cls(network, frame.vocabulary_size)

    def undecayed(self) -> Sequence[nn.Parameter]:
        """Return the embeddings, whose length sets their learning rate."""
        return (self.embeddings,)

    @property
    def codes(self) -> Float[Tensor, "vocabulary dim"]:
        """The embeddings, of unit length."""
        return F.normalize(self.embeddings, dim=-1)

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the bound, nats per token: an eighth of the batch estimates the reconstruction.

        The rest estimates the diffusion term; a batch of one sequence is used for both. One call,
        and one without gradient for a quarter of the sequences.
        """
        tokens = tokens.expand(max(2, len(tokens)), -1)
        num_reconstructed = max(1, round(len(tokens) * RECONSTRUCTED_SHARE))
        num_diffused = len(tokens) - num_reconstructed
        time = draw_stratified(1, num_diffused, generator)[0].to(tokens.device)
        time = F.pad(time, (num_reconstructed, 0))
        offset = (CONDITIONED_EVERY * draw_uniform((1,), generator)).long().to(tokens.device)
        rows = torch.arange(len(tokens), device=tokens.device)
        conditioned = (rows - offset) % CONDITIONED_EVERY == 0
        reconstruction, diffusion = self.part_nats(tokens, time, conditioned, generator)
        return (
            reconstruction[:num_reconstructed].mean()
            + diffusion[num_reconstructed:].mean()
            + _frozen(self.prior_nats(tokens), conditioned).mean()
        )

    @torch.no_grad()
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return an unbiased estimate of the bound; two calls for each time and for z_0."""
        times = draw_evaluation_times(tokens, num_samples, generator).to(tokens.device)
        all_rows = torch.ones_like(tokens[:, 0], dtype=torch.bool)
        first, _ = self.part_nats(tokens, torch.zeros_like(times[:, 0]), all_rows, generator)
        nats = in_double(self.prior_nats(tokens)) + in_double(first)
        for time in times.unbind(-1):
            _, part = self.part_nats(tokens, time, all_rows, generator)
            nats = nats + in_double(part) / num_samples
        return Estimate(nats, 2 * (num_samples + 1))

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Walk from noise to z_0 and draw tokens there; N calls."""
        codes, device = self.codes, generator.device
        z = draw_normal_like(torch.zeros(num_sequences, length, codes.shape[1], device=device),
                             generator)  # fmt: skip
        x_hat, logits = torch.zeros_like(z), None
        times = torch.linspace(1, 0, num_steps, device=device).tolist()
        levels = [self._level(torch.full((num_sequences,), time, device=device)) for time in times]
        for level, following in zip(levels, [*levels[1:], None], strict=True):
            logits = self._logits(z, level, x_hat, z @ codes.T)
            x_hat = logits.softmax(-1) @ codes
            if following is not None:
                z = _ancestral(z, x_hat, level, following, generator)
        assert logits is not None
        return Drawn(draw_categorical(logits.softmax(-1), generator), num_steps)

    def prior_nats(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return the divergence of the last noisy codes from the standard normal distribution.

        Args:
            tokens: The true tokens.

        Returns:
            Nats of every token.
        """
        last = self._level(torch.ones(1, device=tokens.device))
        alpha2, sigma2 = last.alpha[0, 0, 0].square(), last.sigma[0, 0, 0].square()
        x = self.codes[tokens]
        return 0.5 * (sigma2 + alpha2 * x.square() - 1 - sigma2.log()).sum(-1)

    def part_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        conditioned: Bool[Tensor, " batch"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "batch length"], Float[Tensor, "batch length"]]:
        """Return the reconstruction cost of tokens at z and the rate of the diffusion cost there.

        Args:
            tokens: The true tokens.
            time: The time of z, for every sequence.
            conditioned: Which sequences are self-conditioned; these train the network alone.
            generator: Source of the noise.

        Returns:
            `-log Q(x|z)` and the bound's rate `-½ ν' ‖x - x̂‖²`, nats of every token.
        """
        interior = self.schedule.interior(time)
        losses: list[Tensor] = []
        for part in interior:
            if part.requires_grad:
                # To minimise the variance, the gradient of loss² in place of that of the loss.
                part.register_hook(lambda gradient: gradient * 2 * losses[0])
        level = self.schedule.level(interior).frozen(conditioned)
        codes = self.codes
        x = _frozen(codes[tokens], conditioned)
        z = level.alpha * x + level.sigma * draw_normal_like(x.detach(), generator)
        scores = _by_row(z @ codes.T, z @ codes.detach().T, conditioned)
        logits = self._logits(z, level, self._first_guess(z, level, conditioned), scores)
        probs = logits.softmax(-1)
        x_hat = _by_row(probs @ codes, probs @ codes.detach(), conditioned)
        rate = 0.5 * ((-level.g).exp() * level.slope)[:, None]
        diffusion = rate * (x - x_hat).square().sum(-1)
        losses.append(diffusion.detach().mean(-1))
        return F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none"), diffusion

    @torch.no_grad()
    def _first_guess(self, z: Codes, level: Level, conditioned: Bool[Tensor, " batch"]) -> Codes:
        x_hat = torch.zeros_like(z)
        if bool(conditioned.any()):
            seen, codes = z[conditioned], self.codes
            level = Level(level.g[conditioned], level.slope[conditioned])
            logits = self._logits(seen, level, torch.zeros_like(seen), seen @ codes.T)
            x_hat[conditioned] = logits.softmax(-1) @ codes
        return x_hat

    def _level(self, time: Float[Tensor, " batch"]) -> Level:
        return self.schedule.level(self.schedule.interior(time))

    def _logits(
        self,
        z: Codes,
        level: Level,
        x_hat: Codes,
        scores: Float[Tensor, "batch length vocabulary"],
    ) -> Float[Tensor, "batch length vocabulary"]:
        low, high = G_RANGE
        scaled = ((level.g - low) / (high - low)).clamp(0, 1)
        dimension = z.shape[-1]
        # The variance of a coordinate of z over tokens and noise, for uniformly distributed codes.
        variance = level.alpha.square() / dimension + level.sigma.square()
        seen = torch.cat([z / variance.sqrt(), dimension**0.5 * x_hat], -1)
        return self.network(seen, scaled) + (level.alpha / level.sigma.square()) * scores


def _by_row(free: Tensor, frozen: Tensor, rows: Bool[Tensor, " batch"]) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (free.ndim - 1)), frozen, free)


def _frozen(values: Tensor, rows: Bool[Tensor, " batch"]) -> Tensor:
    return _by_row(values, values.detach(), rows)


def _ancestral(
    z: Codes, x_hat: Codes, later: Level, earlier: Level, generator: torch.Generator
) -> Codes:
    # VDM, appendix A.
    kept = later.alpha / earlier.alpha
    added = later.sigma.square() - kept.square() * earlier.sigma.square()
    from_z = kept * earlier.sigma.square() / later.sigma.square()
    from_x = earlier.alpha * added / later.sigma.square()
    spread = (added * earlier.sigma.square() / later.sigma.square()).clamp(min=0).sqrt()
    return from_z * z + from_x * x_hat + spread * draw_normal_like(z, generator)
