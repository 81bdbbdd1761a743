"""AR argmax flow: a continuous autoregressive density, rounded by signs (Hoogeboom et al. 2021).

A token is written in `M = ⌈log₂ V⌉` binary digits (the paper's Cartesian product of small argmaxes;
for two classes the argmax is a sign). With `v ∈ R^{L×M}` and digits `b = sign v ∈ {-1, 1}`,

    P(x) = ∫ p(v) 1[sign v = b(x)] dv,    -log P(x) <= E_q[ log q(v|x) - log p(v) ].

p is autoregressive over tokens. The density of one token's vector is a mixture of Gaussians with
diagonal covariance; its digits are dependent through the component. q draws `u ~ N(m, s²)` for each
digit, m and s learned for each token, and fixes the sign by `v = b softplus(u)` (the paper's
softplus thresholding at 0), so

    log q(v|x) = Σ log N(u; m, s²) - log σ(u).

If V is not a power of 2, some digits encode no token. The sampler redraws such a vector, which
divides the probability of every token by the valid mass given the tokens before; as that is at most
1, the bound still holds.

Our choices: the authors' encoder is a bidirectional LSTM that reads the text, ours a Gaussian for
each token; their AR flow is an LSTM with mixtures of 27 logistics, ours the transformer of all
methods with mixtures of 64 Gaussians (didriknielsen/argmax_flows, `model/ar/flow.py`). They train
with Adam and no decay (`optim/base.py`); all methods here share AdamW, but means, scales and
centres are not decayed.
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
# Initial means of q and of the components. So far from 0 a softplus is nearly the identity, so a
# Gaussian component matches q, and the initial bound is that of M fair binary digits, M log 2.
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
        """Draw sequences vector by vector, redrawing each until it is not refused."""
        ...


class MixtureDensity(nn.Module):
    """Mixtures of diagonal Gaussians whose parameters are the outputs of a causal network.

    Args:
        network: Returns the weights, means and log-scales of the components, flattened, for each
            place; its input there is the preceding vector.
        num_digits: Dimension M of the vectors.
    """

    def __init__(self, network: CausalNetwork, num_digits: int) -> None:
        super().__init__()
        self.network, self.num_digits = network, num_digits
        # Initially one component in each orthant, as far as there are enough of them.
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
        """Draw sequences vector by vector, redrawing the refused ones; L calls."""
        v = self.centres.new_zeros(num_sequences, self.num_digits)
        drawn, past = [], []
        for _ in range(length):
            outputs, past = self.network.extend(v[:, None], past)
            weights, means, scales = self._components(outputs[:, 0])
            v = _draw_from_mixture(weights, means, scales, generator)
            while bool((no := is_refused(v)).any()):
                v[no] = _draw_from_mixture(weights[no], means[no], scales[no], generator)
            drawn.append(v)
        return torch.stack(drawn, 1)

    def _components(
        self, outputs: Float[Tensor, "*places outputs"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        outputs = outputs.unflatten(-1, (NUM_COMPONENTS, 1 + 2 * self.num_digits))
        weights, means, log_scales = outputs.split((1, self.num_digits, self.num_digits), -1)
        return weights[..., 0].log_softmax(-1), means + self.centres, log_scales


class ArgmaxFlow(Variational):
    """A continuous autoregressive density, rounded to tokens by the signs of its vectors.

    Args:
        density: The density of v.
        vocabulary_size: Number of tokens, V.
    """

    held = 0.0

    def __init__(self, density: Density, vocabulary_size: int) -> None:
        super().__init__()
        self.density, self.vocabulary_size = density, vocabulary_size
        num_digits = digits_needed(vocabulary_size)
        self.means = nn.Parameter(torch.full((vocabulary_size, num_digits), DISTANCE))
        self.log_scales = nn.Parameter(torch.zeros(vocabulary_size, num_digits))
        self.register_buffer("place_values", 2 ** torch.arange(num_digits), persistent=False)

    place_values: Tensor

    def undecayed(self) -> Sequence[nn.Parameter]:
        """Return the means and scales of q, and the centres of mixture components."""
        centres = (self.density.centres,) if isinstance(self.density, MixtureDensity) else ()
        return (self.means, self.log_scales, *centres)

    @classmethod
    def from_frame(cls, frame: Frame) -> "ArgmaxFlow":
        """Return the untrained method with a mixture density on a causal network."""
        num_digits = digits_needed(frame.vocabulary_size)
        embedding = nn.Linear(num_digits, frame.backbone.width)
        # Embedded tokens have the same distances as with the embeddings of other methods.
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
        """Draw token by token, redrawing where the digits encode no token; L calls."""
        v = self.density.sample(num_sequences, length, self._is_no_token, generator)
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
        """Return the tokens whose digits are the signs of vectors.

        Args:
            v: Vectors.

        Returns:
            Numbers below `2^M`; those from V on are no tokens.
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
            v, whose signs are the digits of the tokens, and `log q(v|x)` of each token.
        """
        mean, log_scale = self.means[tokens], self.log_scales[tokens]
        noise = draw_normal_like(mean.detach(), generator)
        u = mean + log_scale.exp() * noise
        log_normal = -0.5 * noise.square() - log_scale - 0.5 * math.log(2 * math.pi)
        # |dv/du| = σ(u), the slope of the softplus.
        return self.digits_of(tokens) * F.softplus(u), (log_normal - F.logsigmoid(u)).sum(-1)

    def _is_no_token(self, v: Float[Tensor, "batch digits"]) -> Bool[Tensor, " batch"]:
        return self.tokens_of(v) >= self.vocabulary_size


def digits_needed(vocabulary_size: int) -> int:
    """Return the number of binary digits that tell V tokens apart, at least 1.

    Args:
        vocabulary_size: Number of tokens, V.

    Returns:
        `M = ⌈log₂ V⌉`.
    """
    return max(1, math.ceil(math.log2(vocabulary_size)))


def _draw_from_mixture(
    log_weights: Float[Tensor, "batch components"],
    means: Float[Tensor, "batch components digits"],
    log_scales: Float[Tensor, "batch components digits"],
    generator: torch.Generator,
) -> Float[Tensor, "batch digits"]:
    chosen = draw_categorical(log_weights.exp(), generator)
    rows = torch.arange(len(chosen), device=chosen.device)
    mean, log_scale = means[rows, chosen], log_scales[rows, chosen]
    return mean + log_scale.exp() * draw_normal_like(mean, generator)
