"""AR argmax flow: a continuous autoregressive law whose signs spell tokens (Hoogeboom et al. 2021).

A token is written in `M = ⌈log₂ V⌉` binary digits (the paper's Cartesian product of small argmaxes;
for two classes the argmax is a sign). With `v ∈ R^{L×M}` and digits `b = sign v ∈ {-1, 1}`,

    P(x) = ∫ p(v) 1[sign v = b(x)] dv,    -log P(x) <= E_q[ log q(v|x) - log p(v) ].

p is autoregressive over tokens, and for each a mixture of Gaussians with diagonal covariance, whose
components let the digits of a token depend on each other. q draws `u ~ N(m, s²)` for each digit,
m and s learned for each token, and makes its sign right by `v = b softplus(u)` (the paper's
softplus thresholding at 0), so

    log q(v|x) = Σ log N(u; m, s²) - log σ(u).

If V is no power of 2, some digits spell no token. The sampler draws such a token again, which
divides the probability of every token by the valid mass given those before: the bound holds.

Choices: the authors' encoder is a bidirectional LSTM that reads the text, ours a Gaussian for each
token; their AR flow is an LSTM with mixtures of 27 logistics, ours the transformer of all methods
with mixtures of 64 Gaussians (didriknielsen/argmax_flows, `model/ar/flow.py`). They train with Adam
and no decay (`optim/base.py`); all methods here share AdamW, but means, scales and centres are not
decayed.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core.numerics import draw_categorical, draw_normal_like
from stochloc.methods.likelihood import CausalNetwork
from stochloc.methods.method import Drawn, Frame
from stochloc.methods.variational import Variational
from stochloc.nn import Network

NUM_COMPONENTS = 64
# Where q and the components begin: so far from 0 a softplus is the identity, and a Gaussian q is
# matched by a Gaussian component. The first bound is that of M fair digits, M log 2.
DISTANCE = 4.0
Refusal = Callable[[Float[Tensor, "batch digits"]], Bool[Tensor, " batch"]]


@runtime_checkable
class Density(Protocol):
    """An autoregressive density of sequences of vectors."""

    def log_prob(self, v: Float[Tensor, "batch length digits"]) -> Float[Tensor, "batch length"]:
        """Return `log p(v_i | v_1 ... v_{i-1})`."""
        ...

    def sample(
        self, num_sequences: int, length: int, is_refused: Refusal, generator: torch.Generator
    ) -> Float[Tensor, "batch length digits"]:
        """Draw sequences vector by vector, each again until it is not refused."""
        ...


class MixtureDensity(nn.Module):
    """A mixture of diagonal Gaussians whose parameters a causal network gives.

    Args:
        network: Returns the components' weights, means and log-scales, flat, for each place; its
            input there is the vector before.
        num_digits: Dimension M of the vectors.
    """

    def __init__(self, network: CausalNetwork, num_digits: int) -> None:
        super().__init__()
        self.network, self.num_digits = network, num_digits
        # Components begin apart, one in each orthant while there are enough of them.
        index = torch.arange(NUM_COMPONENTS)[:, None] >> torch.arange(num_digits)
        self.centres = nn.Parameter(DISTANCE * (1.0 - 2.0 * (index & 1)))

    def log_prob(self, v: Float[Tensor, "batch length digits"]) -> Float[Tensor, "batch length"]:
        """Return `log p(v_i | v_1 ... v_{i-1})`; one call."""
        outputs = self.network(F.pad(v[:, :-1], (0, 0, 1, 0)))
        log_weights, means, log_scales = self._components(outputs)
        z = (v[:, :, None] - means) * (-log_scales).exp()
        log_normal = -0.5 * z.square() - log_scales - 0.5 * math.log(2 * math.pi)
        return (log_weights + log_normal.sum(-1)).logsumexp(-1)

    def sample(
        self, num_sequences: int, length: int, is_refused: Refusal, generator: torch.Generator
    ) -> Float[Tensor, "batch length digits"]:
        """Draw sequences vector by vector, each again until it is not refused; L calls."""
        v = self.centres.new_zeros(num_sequences, self.num_digits)
        drawn, past = [], []
        for _ in range(length):
            outputs, past = self.network.extend(v[:, None], past)
            weights, means, scales = self._components(outputs[:, 0])
            v = _draw_of_mixture(weights, means, scales, generator)
            while bool((no := is_refused(v)).any()):
                v[no] = _draw_of_mixture(weights[no], means[no], scales[no], generator)
            drawn.append(v)
        return torch.stack(drawn, 1)

    def _components(
        self, outputs: Float[Tensor, "*places outputs"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        outputs = outputs.unflatten(-1, (NUM_COMPONENTS, 1 + 2 * self.num_digits))
        weights, means, log_scales = outputs.split((1, self.num_digits, self.num_digits), -1)
        return weights[..., 0].log_softmax(-1), means + self.centres, log_scales


class ArgmaxFlow(Variational):
    """A continuous autoregressive law rounded to tokens by signs.

    Args:
        density: The law of v.
        vocabulary_size: Number of tokens, V.
    """

    def __init__(self, density: Density, vocabulary_size: int) -> None:
        super().__init__()
        self.density, self.vocabulary_size = density, vocabulary_size
        num_digits = max(1, math.ceil(math.log2(vocabulary_size)))
        self.means = nn.Parameter(torch.full((vocabulary_size, num_digits), DISTANCE))
        self.log_scales = nn.Parameter(torch.zeros(vocabulary_size, num_digits))
        self.register_buffer("place_values", 2 ** torch.arange(num_digits), persistent=False)

    place_values: Tensor

    def undecayed(self) -> Sequence[nn.Parameter]:
        """Return the means and scales of q, and the components' centres where there are some."""
        centres = (self.density.centres,) if isinstance(self.density, MixtureDensity) else ()
        return (self.means, self.log_scales, *centres)

    @classmethod
    def from_frame(cls, frame: Frame) -> "ArgmaxFlow":
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        num_digits = max(1, math.ceil(math.log2(frame.vocabulary_size)))
        embedding = nn.Linear(num_digits, frame.backbone.width)
        # Tokens as far apart as the embeddings of other methods.
        nn.init.normal_(embedding.weight, std=1 / DISTANCE)
        num_outputs = NUM_COMPONENTS * (1 + 2 * num_digits)
        network = Network(embedding, num_outputs, frame.backbone, causal=True)
        return cls(MixtureDensity(network, num_digits), frame.vocabulary_size)

    def token_nats(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, "batch length"]:
        """Return `log q(v|x) - log p(v)` at one draw of v; one call."""
        v, log_q = self.draw(tokens, generator)
        return log_q - self.density.log_prob(v)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Draw token by token, again where digits spell none; as many calls as tokens."""
        v = self.density.sample(num_sequences, length, self._spells_none, generator)
        return Drawn(self.tokens_of(v), length)

    def digits_of(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch digits"]:
        """Return the digits of tokens as signs.

        Args:
            tokens: Token indices.

        Returns:
            1 for a binary 0 and -1 for a 1, the lowest digit first.
        """
        return 1.0 - 2.0 * ((tokens[..., None] // self.place_values) % 2).float()

    def tokens_of(self, v: Float[Tensor, "*batch digits"]) -> Int[Tensor, "*batch"]:
        """Return what signs spell, which may be V or more.

        Args:
            v: Vectors.

        Returns:
            Numbers below `2^M`.
        """
        return ((v < 0) * self.place_values).sum(-1)

    def draw(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch length digits"], Float[Tensor, "batch length"]]:
        """Draw `v ~ q(v|x)`.

        Args:
            tokens: The true tokens.
            generator: Source of the noise.

        Returns:
            v, whose signs are right, and `log q(v|x)` of each token.
        """
        mean, log_scale = self.means[tokens], self.log_scales[tokens]
        noise = draw_normal_like(mean.detach(), generator)
        u = mean + log_scale.exp() * noise
        log_normal = -0.5 * noise.square() - log_scale - 0.5 * math.log(2 * math.pi)
        # dv/du = σ(u): a softplus is steep where u is large.
        return self.digits_of(tokens) * F.softplus(u), (log_normal - F.logsigmoid(u)).sum(-1)

    def _spells_none(self, v: Float[Tensor, "batch digits"]) -> Bool[Tensor, " batch"]:
        return self.tokens_of(v) >= self.vocabulary_size


def _draw_of_mixture(
    log_weights: Float[Tensor, "batch components"],
    means: Float[Tensor, "batch components digits"],
    log_scales: Float[Tensor, "batch components digits"],
    generator: torch.Generator,
) -> Float[Tensor, "batch digits"]:
    chosen = draw_categorical(log_weights.exp(), generator)
    rows = torch.arange(len(chosen), device=chosen.device)
    mean, log_scale = means[rows, chosen], log_scales[rows, chosen]
    return mean + log_scale.exp() * draw_normal_like(mean, generator)
