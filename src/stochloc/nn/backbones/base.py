"""What a network is between its embeddings and its readout: embeddings in, hidden states out.

The size and the positions are one value, which the localization model and all methods of a
comparison share, so that a difference between methods is not one between networks. A backbone is a
module made from that value; `backbones.ARCHITECTURES` names them all.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from stochloc.nn.backbones.encoder import Transformer
from stochloc.nn.backbones.surroundings import EVERYWHERE, Surroundings


@runtime_checkable
class ContextNetwork(Protocol):
    """The module between embeddings and readout: `(B, L, W)` in, `(B, L, W)` out."""

    @property
    def leaves_out(self) -> bool:
        """Whether the output at a place never depends on the input there.

        A network of which that is true is a `SidedNetwork`, and takes a second argument: the
        embeddings as the right side of each token shows them, where they are not those of the left
        side.
        """
        ...

    def __call__(self, *sides: Tensor, around: Surroundings = EVERYWHERE) -> Tensor:
        """Return a normalised embedding of the context of every token.

        What it returns at absent places has no meaning, and no other place depends on their
        embeddings.
        """
        ...


@runtime_checkable
class SidedNetwork(ContextNetwork, Protocol):
    """A network that leaves places out: it computes both sides of every place, and joins them."""

    def from_left(self, left: Tensor, around: Surroundings = EVERYWHERE) -> Tensor:
        """Return what is made of the embeddings before each place."""
        ...

    def from_right(self, right: Tensor, around: Surroundings = EVERYWHERE) -> Tensor:
        """Return what is made of the embeddings behind each place."""
        ...

    def join(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the context of every place, given both of its sides."""
        ...


@runtime_checkable
class PlaceByPlace(Protocol):
    """A network that is shown the left side of a text token by token."""

    def next(self, left: Tensor) -> Tensor:
        """Read more tokens, `(B, K, W)`, and return the context of the place after, `(B, 1, W)`."""
        ...


@runtime_checkable
class ReadingNetwork(ContextNetwork, Protocol):
    """A network that leaves places out and can be shown the left side token by token."""

    def read(self, right: Tensor, around: Surroundings = EVERYWHERE) -> PlaceByPlace:
        """Return the network at the left end, given what all tokens show to their left."""
        ...


@runtime_checkable
class InStretch(Protocol):
    """A network for texts that differ in one stretch of neighbouring places."""

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the context of every place of the stretch, given its embeddings from two sides."""
        ...


@runtime_checkable
class StretchNetwork(ContextNetwork, Protocol):
    """A network that leaves places out and can keep what it has made of the rest of a text."""

    def within(self, embedded: Tensor, begin: int, end: int, around: Surroundings) -> InStretch:
        """Return the network for texts that are this one outside of `begin ≤ i < end`."""
        ...


@dataclass(frozen=True)
class Backbone:
    """The size and the positions of a backbone; one that has no heads ignores theirs.

    Attributes:
        width: Width W of the embeddings, a multiple of `2 * heads`.
        depth: Number of blocks, those of all its stacks together.
        heads: Attention heads per block.
        rotary_base: Ratio of the slowest to the fastest rotation.
        neighbour_logit: Attention logit with which heads begin to look at their neighbours.
    """

    width: int = 128
    depth: int = 4
    heads: int = 4
    rotary_base: float = 100.0
    neighbour_logit: float = 12.0

    def __post_init__(self) -> None:
        _check_size(self.width, self.depth, self.heads)
        if not 1 <= self.rotary_base < math.inf:
            raise ValueError(f"Rotations need a base of at least 1, not {self.rotary_base}.")
        if not 0 <= self.neighbour_logit < math.inf:
            raise ValueError(
                f"The logit of neighbours must be at least 0, not {self.neighbour_logit}."
            )

    def transformer(self, causal: bool = False) -> Transformer:
        """Return a transformer of this kind with new weights.

        Args:
            causal: Whether a token sees only itself and those before it.

        Returns:
            The transformer.
        """
        return self.stack(self.depth, causal)

    def stack(self, depth: int, causal: bool) -> Transformer:
        """Return a part of the transformer, with new weights.

        Args:
            depth: Number of its blocks, at least 0.
            causal: Whether a token sees only itself and those before it.

        Returns:
            A transformer of so many blocks.
        """
        return Transformer(
            self.width, depth, self.heads, self.rotary_base, self.neighbour_logit, causal
        )


def _check_size(width: int, depth: int, heads: int) -> None:
    for name, value in (("width", width), ("depth", depth), ("heads", heads)):
        if value < 1:
            raise ValueError(f"A model needs a positive {name}, not {value}.")
    if over := width % (2 * heads):
        below, above = width - over, width - over + 2 * heads
        near = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"The width {width} is no multiple of twice the {heads} heads: try a width of {near}."
        )
