"""Codes that are directions: learned, or drawn at random and kept.

A vector divided by its norm cannot leave the sphere, whatever an optimizer does to it. Random
directions stand in for the corners of the simplex where the vocabulary is large and `d = V` too
many numbers: cosines of two tokens have mean 0 and deviation `1/√d`, so almost all pairs are almost
orthogonal. Of 50,257 codes in 64 dimensions the two closest are 0.8 apart, in 48 they are 0.7.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core.codebook import Codebook, checked_size, single_at_least


class DirectedCodebook(Codebook):
    """Codes kept on the sphere by parametrisation: `E_v = w_v / ‖w_v‖`."""

    directions: Tensor

    @property
    def vectors(self) -> Float[Tensor, "vocabulary dim"]:
        """The directions divided by their norms."""
        return F.normalize(single_at_least(self.directions), dim=-1, eps=1e-12)

    @property
    def one(self) -> Float[Tensor, ""]:
        """The number 1."""
        return single_at_least(self.directions).new_ones(())

    def rows(self, start: int, stop: int) -> Float[Tensor, "block dim"]:
        """Return the codes of the tokens `start ≤ v < stop`, and normalise no others.

        Args:
            start: The first token.
            stop: The first token after the last.

        Returns:
            Unit vectors.
        """
        return F.normalize(single_at_least(self.directions[start:stop]), dim=-1, eps=1e-12)


class LearnedCodebook(DirectedCodebook):
    """Learned codes.

    Args:
        vocabulary_size: Number of tokens.
        dimension: Length of a code; the paper's authors use 16 for characters.
        generator: Source of the initial directions.
    """

    def __init__(
        self, vocabulary_size: int, dimension: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.vocabulary_size = checked_size(vocabulary_size)
        self.dimension = _checked_dimension(dimension)
        directions = torch.randn(vocabulary_size, dimension, generator=generator)
        self.directions = nn.Parameter(directions)


class RandomCodebook(DirectedCodebook):
    """Random codes that are not learned: directions drawn once, uniformly, and kept.

    They are a part of a model's state, so a saved model has the codes that it was trained with.

    Args:
        vocabulary_size: Number of tokens.
        dimension: Length of a code; 48 to 64 keep tens of thousands of tokens apart.
        generator: Source of the directions.
    """

    def __init__(
        self, vocabulary_size: int, dimension: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.vocabulary_size = checked_size(vocabulary_size)
        self.dimension = _checked_dimension(dimension)
        directions = torch.randn(vocabulary_size, dimension, generator=generator)
        self.register_buffer("directions", directions)


def _checked_dimension(dimension: int) -> int:
    if dimension < 1:
        raise ValueError(f"A code needs at least one dimension, not {dimension}.")
    return dimension
