"""A Markov chain of any length, whose likelihood and posterior are exact: the prior of edits."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from stochloc.core import Codebook, ExactDenoiser, SimplexCodebook


@dataclass(frozen=True)
class Chain:
    """A denoiser by enumeration of all texts of a length.

    Attributes:
        first: Log-probability of the first token.
        next: Log-probability of a token given the one before it.
        codebook: The codes.
    """

    first: Tensor
    next: Tensor
    codebook: Codebook

    @classmethod
    def drawn(cls, size: int, seed: int, spread_first: float, spread_next: float) -> "Chain":
        """Return a random chain of so many tokens; the larger the spread, the less entropy."""
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(size, generator=generator).double().mul(spread_first)
        following = torch.randn(size, size, generator=generator).double().mul(spread_next)
        codebook = SimplexCodebook(size).double()
        return cls(first.log_softmax(-1), following.log_softmax(-1), codebook)

    def log_prob(self, text: tuple[int, ...]) -> float:
        """Return `log P(text | its length)`."""
        return float(self.first[text[0]] + sum(self.next[pair] for pair in pairwise(text)))

    def enumerated(self, length: int) -> ExactDenoiser:
        """Return the exact denoiser of the texts of a length."""
        tokens = torch.arange(len(self.first))
        texts = torch.cartesian_prod(*[tokens] * length).reshape(-1, length)
        weights = [self.log_prob(text) for text in texts.tolist()]
        return ExactDenoiser(self.codebook, texts, torch.tensor(weights, dtype=torch.float64))

    def __call__(self, state):
        return self.enumerated(state.known.shape[-1])(state)
