"""AR discrete flow: shifted tokens under an autoregressive base (Tran et al. 2019).

    y_i = (x_i - μ_i(x_1 ... x_{i-1})) mod V,    P(x) = Π_i p_base(y_i | y_1 ... y_{i-1})

Shifts are a bijection of sequences, so there is no Jacobian and the likelihood is exact. μ is the
argmax of a causal network's logits; its gradient, as in the paper, is that of a softmax at
temperature 0.1 (straight-through). Shifting a one-hot token by a one-hot shift is a circular
convolution, through which the gradient flows.

Our choices: of the paper's transformations the location alone (its scale must be coprime to V or
absent); of its bases the autoregressive one, as in its experiments with autoregressive flows. Flow
and base each take half of the backbone's depth, so the method costs as much as the others.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core.numerics import draw_categorical
from stochloc.methods.likelihood import CausalNetwork, Likelihood
from stochloc.methods.method import Drawn, Frame
from stochloc.nn import Network

TEMPERATURE = 0.1
OneHots = Float[Tensor, "batch length vocabulary"]


class DiscreteFlow(Likelihood):
    """An autoregressive flow on tokens before an autoregressive base.

    Args:
        shift: Returns logits of `μ_i` from one-hot tokens `x_1 ... x_{i-1}`: its input is shifted
            by one place and starts with zeros.
        base: Returns logits of `y_i` from one-hot tokens `y_1 ... y_{i-1}`, likewise.
        vocabulary_size: Number of tokens, V.
    """

    held = 9.2

    def __init__(self, shift: CausalNetwork, base: CausalNetwork, vocabulary_size: int) -> None:
        super().__init__()
        self.shift, self.base, self.vocabulary_size = shift, base, vocabulary_size

    @classmethod
    def from_frame(cls, frame: Frame) -> "DiscreteFlow":
        """Return the untrained method with half of the backbone's depth in each network."""
        size, depth = frame.vocabulary_size, frame.backbone.depth
        halves = (depth // 2, depth - depth // 2)
        shift, base = (
            Network(
                nn.Linear(size, frame.backbone.width),
                size,
                replace(frame.backbone, depth=max(1, half)),
                causal=True,
            )
            for half in halves
        )
        # An embedded one-hot token has unit variance, as with an embedding layer.
        for network in (shift, base):
            nn.init.normal_(network.embedding.get_parameter("weight"))
        return cls(shift, base, size)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Draw token by token; L calls of each network, each for one place."""
        x = torch.zeros(num_sequences, 1, self.vocabulary_size, device=generator.device)
        y, tokens, past_x, past_y = x, [], [], []
        for _ in range(length):
            shifts, past_x = self.shift.extend(x, past_x)
            logits, past_y = self.base.extend(y, past_y)
            drawn = draw_categorical(logits[:, 0].softmax(-1), generator)
            token = (drawn + shifts[:, 0].argmax(-1)) % self.vocabulary_size
            tokens.append(token)
            x, y = (self._one_hot(new)[:, None] for new in (token, drawn))
        return Drawn(torch.stack(tokens, 1), length)

    def token_nats(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return `-log P(x_i | x_1 ... x_{i-1})` of every token; one call of each network."""
        x = self._one_hot(tokens)
        y = circular_difference(x, straight_through(self.shift(_preceding(x))))
        log_probs = self.base(_preceding(y)).log_softmax(-1)
        return -(y * log_probs).sum(-1)

    def _one_hot(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch vocabulary"]:
        return F.one_hot(tokens, self.vocabulary_size).float()


def straight_through(
    logits: Float[Tensor, "*batch vocabulary"],
) -> Float[Tensor, "*batch vocabulary"]:
    """Return the one-hot argmax, with the gradient of a softmax at a low temperature.

    Args:
        logits: Scores.

    Returns:
        One-hot vectors.
    """
    soft = (logits / TEMPERATURE).softmax(-1)
    hard = F.one_hot(logits.argmax(-1), logits.shape[-1]).to(soft)
    return hard + soft - soft.detach()


def circular_difference(
    minuend: Float[Tensor, "*batch vocabulary"], subtrahend: Float[Tensor, "*batch vocabulary"]
) -> Float[Tensor, "*batch vocabulary"]:
    """Return the distribution of `(a - b) mod V` for independent tokens.

    Args:
        minuend: Distribution of a.
        subtrahend: Distribution of b.

    Returns:
        `Σ_b P(a = y + b) P(b)` for every y, differentiable in both; one-hot up to rounding where
        both are. O(V log V) for each place, by Fourier transforms.
    """
    waves = torch.fft.rfft(minuend) * torch.fft.rfft(subtrahend).conj()
    return torch.fft.irfft(waves, minuend.shape[-1])


def _preceding(one_hots: OneHots) -> OneHots:
    return F.pad(one_hots[:, :-1], (0, 0, 1, 0))
