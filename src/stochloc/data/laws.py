"""Laws on finitely many tokens or states: checked, drawn at random, sampled, followed.

A law is a vector of probabilities; laws are the rows of a matrix. Knows nothing of the sources
built from them.
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

MAX_SEQUENCES = 2**20


def check_laws(name: str, laws: Float64[Tensor, "*rows outcomes"]) -> None:
    """Make sure that every row is a probability distribution.

    Args:
        name: what the user calls these laws.
        laws: shape (..., outcomes).

    Raises:
        ValueError: a probability is negative or not finite, or a row does not sum to 1.
    """
    sums = laws.sum(dim=-1)
    if not (bool((laws >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-9)):
        raise ValueError(
            f"The {name} probabilities are no laws; give non-negative numbers that sum to 1 along "
            "the last axis."
        )


def random_laws(
    num_laws: int, num_outcomes: int, concentration: float, generator: torch.Generator
) -> Float64[Tensor, "laws outcomes"]:
    """Draw laws from a symmetric Dirichlet distribution.

    Args:
        num_laws: how many.
        num_outcomes: outcomes per law.
        concentration: small: nearly deterministic laws; large: nearly uniform ones.
        generator: the source of randomness.

    Returns:
        Shape (num_laws, num_outcomes), rows sum to 1.
    """
    # torch draws no Dirichlet variables from a generator; NumPy does, seeded from ours.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    alpha = np.full(num_outcomes, concentration)
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(alpha, num_laws))


def draw(
    laws: Float64[Tensor, "num outcomes"], generator: torch.Generator
) -> Int64[Tensor, " num"]:
    """Draw one outcome from each row.

    Args:
        laws: shape (num, outcomes).
        generator: the source of randomness.

    Returns:
        Outcomes, shape (num,).
    """
    if not len(laws):
        return torch.empty(0, dtype=torch.int64)
    return torch.multinomial(laws, 1, generator=generator).squeeze(1)


def walk(
    initial: Float64[Tensor, " states"],
    transition: Float64[Tensor, "states states"],
    num: int,
    length: int,
    generator: torch.Generator,
) -> Int64[Tensor, "num length"]:
    """Draw paths of a Markov chain.

    Args:
        initial: the law of the first state, shape (S,).
        transition: the laws of the next state, shape (S, S).
        num: how many paths.
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

    Prefixes grow by one token at a time together with the states that can have shown them. No
    prefix dies, since every law sums to 1, so the count only grows and can be refused early.

    Args:
        initial: the law of the first state, shape (S,).
        transition: the laws of the next state, shape (S, S).
        emission: the laws of the token shown, shape (S, V).
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
        raise ValueError(f"Sequences of length {length} were asked for; ask for at least 1 token.")
