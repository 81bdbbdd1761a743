"""IAF/SCF: all tokens emitted at once from a latent flow (Ziegler and Rush 2019, Latent flows).

    -log P(x) <= E_q[ -log p(x|z) + log q(z|x) - log p(z) ],    p(x|z) = Π_i p(x_i|z),

with a vector `z_i ∈ R^D` for each token. q is Gaussian, with mean and scale from a network that
reads x; the emission is a network that reads z; the prior is a flow, inverse autoregressive over
places:

    ε_i = f(z_i; h_i),  h_i = h(ε_1 ... ε_{i-1}),    log p(z) = Σ log N(ε_i) + log |∂ε_i/∂z_i|.

So all of z is generated at once from ε, but its density is computed token by token, as each ε_i
enters the next h: an update takes L small serial steps, as the paper's does, and costs 3.2 times
that of a plain encoder (`benchmarks/methods.py`). f is a stack of split couplings (SCF): half of
the D dimensions is transformed given the other half and h, then the other half, each by the paper's
squared flow

    f(z) = a + b z + c / (1 + (d z + g)²),    |c| < 8√3/9 b/d,  b, d > 0,

which is increasing; its inverse is the real root of a cubic. Densities need f, samples the inverse.
Our choices: D = 8; four couplings; a quarter of the backbone's depth each for q and the emission,
the rest, at least two layers, for h, which reads ε through a perceptron; b and d within e^±3, c
within 0.999 of its limit. As in the paper the weight of the divergence is small at first, because q
would otherwise collapse to the prior before the emission has learned to read z: it grows from 0 to
1 over the first third of training. (The authors' weight is 1e-5 for 4 epochs, then grows for 10, of
at most 100: harvardnlp/TextFlow, `config.py`, `utils.py`; training as short as ours would end
before that.) The bound is importance weighted, as in the authors' evaluation.
"""

import math
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core import Estimate
from stochloc.core.numerics import draw_categorical, draw_normal_like
from stochloc.methods.method import Drawn, Frame
from stochloc.methods.variational import Variational
from stochloc.nn import Network, token_network
from stochloc.nn.backbones.past import Past

DIMENSION = 8
NUM_COUPLINGS = 4
CONTEXT, HIDDEN, READER_UNITS = 64, 64, 128
MAX_BUMP = 0.999 * 8 * math.sqrt(3) / 9
MAX_LOG_SCALE = 3.0
NUM_POLISHING_STEPS = 30
ANNEALED_SHARE = 1 / 3

Latents = Float[Tensor, "batch length dim"]
Coordinates = Float[Tensor, "*batch half"]


@runtime_checkable
class Prior(Protocol):
    """A distribution of sequences of latent vectors."""

    def log_prob(self, z: Latents) -> Float[Tensor, "batch length"]:
        """Return what each vector adds to `log p(z)`."""
        ...

    def draw(self, num_sequences: int, length: int, generator: torch.Generator) -> Latents:
        """Draw latent sequences."""
        ...


class SquaredFlow:
    """The scalar flow `a + b z + c / (1 + (d z + g)²)`, increasing.

    Args:
        parameters: Five unconstrained numbers for each coordinate; all 0 give the identity.
    """

    def __init__(self, parameters: Float[Tensor, "*batch five_halves"]) -> None:
        self.a, raw_b, raw_c, raw_d, self.g = parameters.chunk(5, -1)
        self.b, self.d = (
            (MAX_LOG_SCALE * (raw / MAX_LOG_SCALE).tanh()).exp() for raw in (raw_b, raw_d)
        )
        self.c = MAX_BUMP * self.b / self.d * raw_c.tanh()

    def __call__(self, z: Coordinates) -> Coordinates:
        """Return f(z)."""
        return self.a + self.b * z + self.c / (1 + (self.d * z + self.g).square())

    def log_slope(self, z: Coordinates) -> Coordinates:
        """Return `log f'(z)`."""
        u = self.d * z + self.g
        return (self.b - 2 * self.c * self.d * u / (1 + u.square()).square()).log()

    def inverse(self, y: Coordinates) -> Coordinates:
        """Return the z with `f(z) = y`: the root of a cubic, refined by Newton or bisection."""
        ratio = self.b / self.d
        shifted = y - self.a + ratio * self.g
        square, constant = -shifted / ratio, (self.c - shifted) / ratio
        # u³ + square u² + u + constant = 0 in u = d z + g, with exactly one real root.
        p = 1 - square.square() / 3
        q = 2 * square**3 / 27 - square / 3 + constant
        root = (q.square() / 4 + p**3 / 27).clamp(min=0).sqrt()
        u = _cube_root(-q / 2 + root) + _cube_root(-q / 2 - root) - square / 3
        z = (u - self.g) / self.d
        # f(z) - a - b z lies between 0 and c, which brackets the root.
        low = (y - self.a - self.c.clamp(min=0)) / self.b
        high = (y - self.a - self.c.clamp(max=0)) / self.b
        for _ in range(NUM_POLISHING_STEPS):
            excess = self(z) - y
            low, high = torch.where(excess < 0, z, low), torch.where(excess > 0, z, high)
            newton = z - excess * (-self.log_slope(z)).exp()
            z = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        return z


class Coupling(nn.Module):
    """A transformation of one half of the dimensions given the other half and a context.

    Args:
        dimension: D, even.
        num_context: Size of the context.
        second: Whether the second half is transformed, not the first.
    """

    def __init__(self, dimension: int, num_context: int, second: bool) -> None:
        super().__init__()
        half = dimension // 2
        self.half_size, self.second = half, second
        self.inner = nn.Linear(half + num_context, HIDDEN)
        self.outer = nn.Linear(HIDDEN, 5 * half)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def density_step(
        self, x: Float[Tensor, "*batch dim"], context: Float[Tensor, "*batch context"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Return the transformed vector and the log-determinant of the Jacobian."""
        kept, changed = self._halves(x)
        flow = self._flow(kept, context)
        return self._joined(kept, flow(changed)), flow.log_slope(changed).sum(-1)

    def invert(
        self, y: Float[Tensor, "*batch dim"], context: Float[Tensor, "*batch context"]
    ) -> Float[Tensor, "*batch dim"]:
        """Return the vector that `density_step` transforms into this one."""
        kept, changed = self._halves(y)
        return self._joined(kept, self._flow(kept, context).inverse(changed))

    def _flow(
        self, kept: Float[Tensor, "*batch half"], context: Float[Tensor, "*batch context"]
    ) -> SquaredFlow:
        return SquaredFlow(self.outer(F.silu(self.inner(torch.cat([kept, context], -1)))))

    def _halves(self, x: Float[Tensor, "*batch dim"]) -> tuple[Tensor, Tensor]:
        first, last = x.split(self.half_size, -1)
        return (first, last) if self.second else (last, first)

    def _joined(self, kept: Tensor, changed: Tensor) -> Float[Tensor, "*batch dim"]:
        return torch.cat([kept, changed] if self.second else [changed, kept], -1)


class FlowPrior(nn.Module):
    """A flow prior: inverse autoregressive over places, split couplings over dimensions.

    Args:
        network: Causal; returns the context of a place given ε of the place before, at first zeros.
        dimension: D, even.
    """

    def __init__(self, network: Network, dimension: int) -> None:
        super().__init__()
        self.network, self.dimension = network, dimension
        self.couplings = nn.ModuleList(
            Coupling(dimension, network.head.shape[0], second=bool(n % 2))
            for n in range(NUM_COUPLINGS)
        )

    def log_prob(self, z: Latents) -> Float[Tensor, "batch length"]:
        """Return what each vector adds to `log p(z)`; exact, L serial calls for one place each."""
        epsilon, log_volumes = torch.zeros_like(z[:, 0]), []
        past: list[Past] = []
        noises = []
        for z_i in z.unbind(1):
            context, past = self.network.extend(epsilon[:, None], past)
            epsilon, log_volume = z_i, torch.zeros_like(z_i[:, 0])
            for coupling in self._couplings():
                epsilon, change = coupling.density_step(epsilon, context[:, 0])
                log_volume = log_volume + change
            noises.append(epsilon)
            log_volumes.append(log_volume)
        noise = torch.stack(noises, 1)
        return _log_normal(noise).sum(-1) + torch.stack(log_volumes, 1)

    def draw(self, num_sequences: int, length: int, generator: torch.Generator) -> Latents:
        """Draw latent sequences; one call for all places at once."""
        weight = self.network.head
        noise = draw_normal_like(weight.new_zeros(num_sequences, length, self.dimension), generator)
        return self.generate(noise)

    def generate(self, noise: Latents) -> Latents:
        """Return the latent sequences that given noise generates.

        Args:
            noise: The noise ε.

        Returns:
            z, by the inverse of the map that `log_prob` evaluates.
        """
        context, z = self.network(F.pad(noise[:, :-1], (0, 0, 1, 0))), noise
        for coupling in reversed(self._couplings()):
            z = coupling.invert(z, context)
        return z

    def _couplings(self) -> list[Coupling]:
        return [coupling for coupling in self.couplings if isinstance(coupling, Coupling)]


class LatentFlow(Variational):
    """Tokens emitted independently from a latent sequence with a flow prior.

    Args:
        inference: Returns mean and log-scale of z, `(B, L, 2 D)`, given tokens.
        prior: The distribution of z.
        emission: Returns logits of V tokens, given z.
    """

    def __init__(self, inference: nn.Module, prior: Prior, emission: nn.Module) -> None:
        super().__init__()
        self.inference, self.prior, self.emission = inference, prior, emission
        # Without calls of `prepare` the divergence has full weight.
        self.share = 1.0

    @classmethod
    def from_frame(cls, frame: Frame) -> "LatentFlow":
        """Return the untrained method with the backbone's depth divided among its networks."""
        size, depth = frame.vocabulary_size, frame.backbone.depth
        small = replace(frame.backbone, depth=max(1, depth // 4))
        # One layer did not learn to predict from several tokens jointly, not even on cyclic data.
        rest = replace(frame.backbone, depth=max(2, depth - 2 * small.depth))
        inference = token_network(size, 2 * DIMENSION, small)
        # Distinct initial means: otherwise z carries no signal from which the emission could learn.
        nn.init.normal_(inference.head[:DIMENSION], std=small.width**-0.5)
        flow = Network(_noise_reader(rest.width), CONTEXT, rest, causal=True)
        reader = nn.Linear(DIMENSION, small.width)
        nn.init.normal_(reader.weight, std=DIMENSION**-0.5)
        emission = Network(reader, size, small)
        return cls(inference, FlowPrior(flow, DIMENSION), emission)

    def prepare(self, share: float) -> None:
        """Receive the progress of training, which sets the weight of the divergence."""
        self.share = share

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the bound at one draw of z, nats per token, with the annealed weight."""
        weight = min(1.0, self.share / ANNEALED_SHARE)
        emitted, divergence = self._parts(tokens, generator)
        return (emitted + weight * divergence).mean()

    def token_nats(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, "batch length"]:
        """Return the bound at one draw of z; one call of each network."""
        emitted, divergence = self._parts(tokens, generator)
        return emitted + divergence

    @torch.no_grad()
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return the importance-weighted bound, `-log 1/S Σ_s exp(-nats_s)`.

        Args:
            tokens: The sequences.
            num_samples: Draws S of z, at least 1; one call of each network for each.
            generator: Source of the draws.

        Returns:
            Unbiased estimates of a bound that tightens with more draws and is never looser than the
            bound at one draw (Burda et al. 2016).
        """
        draws = self.draws(tokens, num_samples, generator)
        totals = draws.sum(-1)
        nats = ((-totals).softmax(0)[..., None] * draws).sum(0)
        # The gain over the weighted mean is one of the sequence: it is spread over its tokens.
        total = math.log(num_samples) - torch.logsumexp(-totals, 0)
        return Estimate(nats + ((total - nats.sum(-1)) / tokens.shape[1])[:, None], num_samples)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Draw z, then all tokens at once; one call of the prior and one of the emission."""
        z = self.prior.draw(num_sequences, length, generator)
        return Drawn(draw_categorical(self.emission(z).softmax(-1), generator), 2)

    def _parts(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch length"], Float[Tensor, "batch length"]]:
        mean, log_scale = self.inference(tokens).chunk(2, -1)
        noise = draw_normal_like(mean.detach(), generator)
        z = mean + log_scale.exp() * noise
        log_q = (_log_normal(noise) - log_scale).sum(-1)
        logits = self.emission(z)
        emitted = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
        return emitted, log_q - self.prior.log_prob(z)


def _noise_reader(width: int) -> nn.Module:
    # The next token depends on the region that contains ε, which a linear map cannot represent.
    inner = nn.Linear(DIMENSION, READER_UNITS)
    outer = nn.Linear(READER_UNITS, width, bias=False)
    nn.init.normal_(inner.weight)
    nn.init.normal_(inner.bias)
    nn.init.normal_(outer.weight, std=READER_UNITS**-0.5)
    return nn.Sequential(inner, nn.ReLU(), outer)


def _log_normal(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return -0.5 * x.square() - 0.5 * math.log(2 * math.pi)


def _cube_root(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return x.sign() * x.abs() ** (1 / 3)
