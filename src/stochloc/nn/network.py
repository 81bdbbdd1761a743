"""Networks that see a time, an order or nothing: the transformer as other methods use it.

    tokens or vectors -> embeddings (+ an embedding of the time) -> transformer -> outputs

The output weights begin at 0, so an untrained network returns 0 everywhere: the uniform
distribution where the outputs are logits. Everything else is as in `LocalizationModel`, so that a
difference between methods is not one between networks.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.nn.backbones.base import Backbone
from stochloc.nn.backbones.past import Past

FASTEST_TIME = 1000.0


class Network(nn.Module):
    """A transformer between an embedding and a linear head that begins at 0.

    Args:
        embedding: Makes embeddings of the backbone's width from what `forward` is given.
        num_outputs: Outputs per position.
        backbone: The transformer.
        causal: Whether a position sees only itself and those before it.
        timed: Whether `forward` is given a time.
    """

    def __init__(
        self,
        embedding: nn.Module,
        num_outputs: int,
        backbone: Backbone,
        causal: bool = False,
        timed: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.time = TimeEmbedding(backbone.width) if timed else None
        self.transformer = backbone.transformer(causal)
        self.head = nn.Parameter(torch.zeros(num_outputs, backbone.width))
        # In float32 as `LocalizationModel` is, whatever the default type.
        self.float()

    def forward(
        self, inputs: Tensor, time: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch length outputs"]:
        """Return the outputs of every position.

        Args:
            inputs: What the embedding takes, `(B, L)` tokens or `(B, L, d)` vectors.
            time: The time of every sequence, in `[0, 1]`; of use only to a timed network.

        Returns:
            Outputs, zeros for a network that was not trained.
        """
        embedded = self.embedding(inputs)
        if self.time is not None:
            assert time is not None
            embedded = embedded + self.time(time.to(embedded))[:, None]
        return F.linear(self.transformer(embedded), self.head)

    def extend(
        self, inputs: Tensor, past: list[Past]
    ) -> tuple[Float[Tensor, "batch more outputs"], list[Past]]:
        """Return the outputs of the positions that come next, of a causal, untimed network.

        Args:
            inputs: What the embedding takes, of one position or of several.
            past: What the call before returned; empty for the first position.

        Returns:
            Outputs as `forward` gives them there, and what is to be remembered.
        """
        assert self.time is None
        hidden, past = self.transformer.extend(self.embedding(inputs), past)
        return F.linear(hidden, self.head), past


class TimeEmbedding(nn.Module):
    """A perceptron on sines and cosines of the time; its output begins at 0.

    Args:
        width: Width of the embedding, even.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        assert width % 2 == 0
        self.width = width
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, time: Float[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        """Return an embedding of every time.

        Args:
            time: Times, in `[0, 1]`.

        Returns:
            The embeddings.
        """
        exponents = torch.arange(self.width // 2).to(time) / (self.width // 2)
        angles = time[:, None] * math.pi * FASTEST_TIME**exponents
        waves = torch.cat([angles.sin(), angles.cos()], -1)
        return self.outer(F.silu(self.inner(waves)))


def token_network(
    num_inputs: int,
    num_outputs: int,
    backbone: Backbone,
    causal: bool = False,
    timed: bool = False,
) -> Network:
    """Return a network that reads tokens.

    Args:
        num_inputs: Number of tokens it may read, mask or start included.
        num_outputs: Outputs per position.
        backbone: The transformer.
        causal: Whether a position sees only itself and those before it.
        timed: Whether it is given a time.

    Returns:
        The network, with standard normal embeddings.
    """
    embedding = nn.Embedding(num_inputs, backbone.width)
    return Network(embedding, num_outputs, backbone, causal, timed)
