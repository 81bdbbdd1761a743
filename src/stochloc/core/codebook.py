"""Token codes on the unit sphere.

Every token `s` has a code `x = enc(s)` with `‖x‖ = 1` (paper 2). The sphere is what makes the best
denoiser independent of the signal-to-noise ratio: in Bayes' rule the term `exp(-γ‖x‖²/2)` is the
same for all tokens and cancels, and `exp(z·x)` remains (paper A.1). That number, the *evidence*
`z Eᵀ`, is all the information that a noisy code holds about its token.

Here are the corners of the probability simplex (`d = V`, all tokens equally far apart, `x̂` is the
posterior itself) and the circle (`d = 2`, the paper's cyclic data); `core.directions` has vectors
that are learned or drawn at random.

Codes are float32 at least, whatever type a model's weights are kept in: a vector rounded to
bfloat16 no longer lies on the sphere, and evidence of thousands of nats would be off by tens.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

ROWS_AT_ONCE = 256


class Codebook(nn.Module, ABC):
    """Unit vectors, one for each token of a vocabulary: `E`, of shape `(V, d)`."""

    vocabulary_size: int
    dimension: int

    @property
    @abstractmethod
    def vectors(self) -> Float[Tensor, "vocabulary dim"]:
        """The codes `E`, each of norm 1."""

    @property
    @abstractmethod
    def one(self) -> Float[Tensor, ""]:
        """The number 1, of the type and on the device of the codes."""

    def rows(self, start: int, stop: int) -> Float[Tensor, "block dim"]:
        """Return the codes of the tokens `start ≤ v < stop`.

        Args:
            start: The first token.
            stop: The first token after the last.

        Returns:
            Unit vectors.
        """
        return self.vectors[start:stop]

    def encode(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return the code of every token, `x = E[tokens]`.

        Args:
            tokens: Indices in `[0, V)`.

        Returns:
            Unit vectors.
        """
        return F.embedding(tokens, self.vectors)

    def evidence(self, z: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocabulary"]:
        """Return the log-likelihood of every token up to a constant, `z Eᵀ` (paper A.1).

        Args:
            z: Noisy codes, at any signal-to-noise ratio.

        Returns:
            Evidence for each token, in nats.
        """
        return z @ self.vectors.T

    def evidence_for(
        self, z: Float[Tensor, "*batch dim"], start: int, stop: int
    ) -> Float[Tensor, "*batch block"]:
        """Return the evidence for the tokens `start ≤ v < stop` alone.

        Args:
            z: Noisy codes, at any signal-to-noise ratio.
            start: The first token.
            stop: The first token after the last.

        Returns:
            Evidence for each of these tokens, in nats.
        """
        return z @ self.rows(start, stop).T

    def nearest_evidence(
        self, target: Float[Tensor, "*batch vocabulary"]
    ) -> Float[Tensor, "*batch dim"]:
        """Return the `z` whose evidence is nearest to a target, in least squares over the tokens.

        A constant added to the evidence of all tokens changes no posterior, so the target is
        matched up to a constant: codes are centred before they are inverted.

        Args:
            target: Evidence wanted for each token, in nats.

        Returns:
            Vectors of evidence; exact for affinely independent codes. Costs `V d²` operations.
        """
        vectors = self.vectors
        return target @ torch.linalg.pinv(vectors - vectors.mean(0)).T

    def mean(self, probs: Float[Tensor, "*batch vocabulary"]) -> Float[Tensor, "*batch dim"]:
        """Return the mean code under token probabilities, `x̂ = probs E`.

        Args:
            probs: Probabilities of the tokens, summing to 1.

        Returns:
            Vectors of norm at most 1.
        """
        return probs @ self.vectors

    def mean_of_blocks(
        self, blocks: Iterable[Float[Tensor, "*batch block"]]
    ) -> Float[Tensor, "*batch dim"]:
        """Return the mean code under probabilities that come in blocks of tokens.

        Args:
            blocks: Probabilities of successive tokens, all of the vocabulary together; at least
                one block.

        Returns:
            Vectors of norm at most 1. Only one block is held in memory at a time.
        """
        vectors, start = self.vectors, 0
        mean = vectors.new_zeros(())
        for probs in blocks:
            stop = start + probs.shape[-1]
            mean, start = mean + probs @ vectors[start:stop], stop
        return mean

    def smallest_distance(self, among: int | None = None) -> float:
        """Return the distance between the two closest codes, ∞ for a vocabulary of one token.

        Args:
            among: Number of tokens, from the first, of which one of the two must be; None for all.

        Returns:
            A number from 0 to 2, to the rounding of the codes. Costs `V · among · d` operations.
        """
        vectors, closest = self.vectors.detach(), -math.inf
        others = vectors[:among]
        for begin in range(0, len(others), ROWS_AT_ONCE):
            cosines = others[begin : begin + ROWS_AT_ONCE] @ vectors.T
            rows = torch.arange(len(cosines), device=cosines.device)
            cosines[rows, begin + rows] = -math.inf
            closest = max(closest, float(cosines.max()))
        return math.sqrt(max(0.0, 2 - 2 * closest))


class SimplexCodebook(Codebook):
    """The corners of the probability simplex: orthonormal codes with `d = V`.

    Encoding is the one-hot map, evidence and mean are identities, so no matrix product is computed
    and the `V²` numbers of `vectors` are never created.
    """

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.vocabulary_size = self.dimension = checked_size(vocabulary_size)
        self.register_buffer("unit", torch.ones(()), persistent=False)
        self.unit: Tensor

    @property
    def vectors(self) -> Float[Tensor, "vocabulary dim"]:
        """The rows of the identity, created at every call."""
        return torch.eye(self.dimension, dtype=self.one.dtype, device=self.unit.device)

    @property
    def one(self) -> Float[Tensor, ""]:
        """The number 1."""
        return single_at_least(self.unit)

    def encode(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return the one-hot vector of every token.

        Args:
            tokens: Indices in `[0, V)`.

        Returns:
            One-hot vectors.
        """
        zero = self.one.new_zeros(*tokens.shape, self.dimension)
        return zero.scatter_(-1, tokens[..., None], 1.0)

    def evidence(self, z: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocabulary"]:
        """Return `z` itself, since `E` is the identity.

        Args:
            z: Noisy codes.

        Returns:
            The same tensor.
        """
        return z

    def evidence_for(
        self, z: Float[Tensor, "*batch dim"], start: int, stop: int
    ) -> Float[Tensor, "*batch block"]:
        """Return the entries of `z` from `start` up to `stop`, since `E` is the identity.

        Args:
            z: Noisy codes.
            start: The first token.
            stop: The first token after the last.

        Returns:
            A view of `z`.
        """
        return z[..., start:stop]

    def nearest_evidence(
        self, target: Float[Tensor, "*batch vocabulary"]
    ) -> Float[Tensor, "*batch dim"]:
        """Return the target without its mean: centred, the identity is its own pseudo-inverse.

        Args:
            target: Evidence wanted for each token, in nats.

        Returns:
            Vectors of evidence; exact, and no `V × V` matrix is inverted.
        """
        return target - target.mean(-1, keepdim=True)

    def mean(self, probs: Float[Tensor, "*batch vocabulary"]) -> Float[Tensor, "*batch dim"]:
        """Return `probs` itself, since `E` is the identity.

        Args:
            probs: Token probabilities.

        Returns:
            The same tensor.
        """
        return probs

    def mean_of_blocks(
        self, blocks: Iterable[Float[Tensor, "*batch block"]]
    ) -> Float[Tensor, "*batch dim"]:
        """Return the blocks joined, since `E` is the identity.

        Args:
            blocks: Probabilities of successive tokens, all of the vocabulary together.

        Returns:
            The joined probabilities.
        """
        return torch.cat(list(blocks), -1)

    def smallest_distance(self, among: int | None = None) -> float:
        """Return `√2`, the distance of any two corners; ∞ for a vocabulary of one token."""
        return math.sqrt(2) if self.vocabulary_size > 1 else math.inf


class CircleCodebook(Codebook):
    """Codes equally spaced on the unit circle, `d = 2` (paper C.1)."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.vocabulary_size, self.dimension = checked_size(vocabulary_size), 2
        angles = torch.arange(vocabulary_size, dtype=torch.float64) * (
            2 * math.pi / vocabulary_size
        )
        points = torch.stack([angles.cos(), angles.sin()], dim=-1)
        self.register_buffer("points", points, persistent=False)
        self.points: Tensor

    @property
    def vectors(self) -> Float[Tensor, "vocabulary dim"]:
        """Points `(cos 2πk/V, sin 2πk/V)`, in float64 until the module is moved to another type."""
        return single_at_least(self.points)

    @property
    def one(self) -> Float[Tensor, ""]:
        """The number 1."""
        return self.vectors.new_ones(())


def single_at_least(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return values in float32, or in their own type if it is finer.

    Args:
        values: Codes, or what they are made from.

    Returns:
        The same values.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def checked_size(vocabulary_size: int) -> int:
    """Return the size of a vocabulary.

    Args:
        vocabulary_size: Number of tokens, V.

    Returns:
        The number.

    Raises:
        ValueError: It is not positive.
    """
    if vocabulary_size < 1:
        raise ValueError(f"A vocabulary needs at least one token, not {vocabulary_size}.")
    return vocabulary_size
