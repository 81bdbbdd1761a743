"""Discrete distributions: validation, random generation, sampling, and walks of Markov chains.

A distribution is a vector of probabilities; several are the rows of a matrix. Knows nothing of the
sources built from them.
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

MAX_SEQUENCES = 2**20


def check_distributions(name: str, probs: Float64[Tensor, "*rows outcomes"]) -> None:
    """Check that every row is a probability distribution.

    Args:
        name: what the user calls these probabilities.
        probs: shape (..., outcomes).

    Raises:
        ValueError: a probability is negative or not finite, or a row does not sum to 1.
    """
    sums = probs.sum(dim=-1)
    if not (bool((probs >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-9)):
        raise ValueError(
            f"The {name} probabilities are not distributions; give non-negative numbers that sum "
            "to 1 along the last axis."
        )


def random_distributions(
    num: int, num_outcomes: int, concentration: float, generator: torch.Generator
) -> Float64[Tensor, "num outcomes"]:
    """Draw distributions from a symmetric Dirichlet distribution.

    Args:
        num: how many to draw.
        num_outcomes: outcomes of each.
        concentration: small: nearly deterministic distributions; large: nearly uniform ones.
        generator: the source of randomness.

    Returns:
        Shape (num, num_outcomes), rows sum to 1.
    """
    # torch cannot draw Dirichlet variables from a generator; NumPy can, seeded from ours.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    alpha = np.full(num_outcomes, concentration)
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(alpha, num))


def draw(
    probs: Float64[Tensor, "num outcomes"], generator: torch.Generator
) -> Int64[Tensor, " num"]:
    """Draw one outcome from each row.

    Args:
        probs: distributions, shape (num, outcomes).
        generator: the source of randomness.

    Returns:
        Outcomes, shape (num,).
    """
    if not len(probs):
        return torch.empty(0, dtype=torch.int64)
    return torch.multinomial(probs, 1, generator=generator).squeeze(1)


def walk(
    initial: Float64[Tensor, " states"],
    transition: Float64[Tensor, "states states"],
    num: int,
    length: int,
    generator: torch.Generator,
) -> Int64[Tensor, "num length"]:
    """Draw paths of a Markov chain.

    Args:
        initial: the distribution of the first state, shape (S,).
        transition: the distributions of the next state, shape (S, S).
        num: number of paths.
        length: states per path.
        generator: the source of randomness.

    Returns:
        Shape (num, length).

    Raises:
        ValueError: the length is less than 1.
    """
    _check_length(length)
    states = [draw(initial.expand(num, -1), generator)]
    for _ in range(length - 1):
        states.append(draw(transition[states[-1]], generator))
    return torch.stack(states, dim=1)


def support(
    initial: Float64[Tensor, " states"],
    transition: Float64[Tensor, "states states"],
    emission: Float64[Tensor, "states outcomes"],
    length: int,
) -> Int64[Tensor, "sequences length"]:
    """Return all sequences of positive probability of a hidden Markov model.

    Prefixes grow by one token at a time together with the states that can have emitted them. Every
    prefix has a continuation, since distributions sum to 1, so the count never falls and too large
    a count is refused early.

    Args:
        initial: the distribution of the first state, shape (S,).
        transition: the distributions of the next state, shape (S, S).
        emission: the distributions of the emitted token, shape (S, V).
        length: tokens per sequence.

    Returns:
        Shape (M, length), in lexicographic order.

    Raises:
        ValueError: the length is less than 1, or M is more than 2²⁰.
    """
    _check_length(length)
    follows, shows = (transition > 0).double(), (emission > 0).double()
    possible = (initial > 0).double()[None]
    sequences = torch.empty(1, 0, dtype=torch.int64)
    for _ in range(length):
        prefix, token = (possible @ shows > 0).nonzero(as_tuple=True)
        if len(prefix) > MAX_SEQUENCES:
            raise ValueError(
                f"More than {MAX_SEQUENCES} sequences of length {length} are possible; enumerate "
                "shorter ones or a smaller vocabulary."
            )
        sequences = torch.cat([sequences[prefix], token[:, None]], dim=1)
        possible = ((possible[prefix] * shows.T[token]) @ follows).clamp(max=1.0)
    return sequences


def _check_length(length: int) -> None:
    if length < 1:
        raise ValueError(f"Sequences of length {length} were requested; ask for at least 1 token.")
