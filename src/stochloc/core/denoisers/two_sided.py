"""Denoisers that can leave a token's own evidence out, and tell its two sides apart.

On the sphere Bayes' rule separates what a noisy code says of its own token from what the others
say (paper A.1):

    P(x_i|z) ∝ exp(z_i·x_i) P(x_i|z_-i),      z_-i = (z_<i, z_>i).

A denoiser that knows the second factor for all i at once is *two-sided* if both sides may come from
different states: `between(left, right)` is

    P(x_i | left_<i, right_>i)      for every token i, in one call.

One function then answers many questions, each in a single call:

    between(z, z).observed(z)             the posterior, all a walk asks for,
    between(z, z)                         every leave-one-out posterior,
    between(all tokens known, z = 0)      the conditionals P(x_i|x_<i) of the chain rule.

Nothing at place i takes part in the answer about token i, so it holds whether the token is known
or not. `left_i` and `right_i` do not meet each other in any single answer, so a learned denoiser
need not be shown pairs of states that contradict each other.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch

from stochloc.core.channel import State
from stochloc.core.denoisers.dense import DensePosterior
from stochloc.core.denoisers.posterior import Denoiser, Posterior

Between = Callable[[State, State], Posterior]


@runtime_checkable
class TwoSided(Denoiser, Protocol):
    """A denoiser that may be able to answer from the two sides of each token."""

    @property
    def between(self) -> Between | None:
        """Returns `P(x_i | left_<i, right_>i)` of every token, one call of the denoiser.

        None if it cannot: for a denoiser made from another one, if that one cannot. Where there is
        an answer, the denoiser's own is `between(state, state).observed(state)`, up to rounding.
        """
        ...


def between(denoiser: Denoiser) -> Between | None:
    """Return how a denoiser answers from the two sides of each token.

    Args:
        denoiser: Any denoiser.

    Returns:
        Its `between`; None if it cannot.
    """
    return denoiser.between if isinstance(denoiser, TwoSided) else None


def leave_one_out(denoiser: Denoiser, state: State) -> Posterior:
    """Return `P(x_i | z_-i)` of every token, known or not: what all others say of it.

    Args:
        denoiser: Any denoiser.
        state: Noisy codes and known tokens.

    Returns:
        The posterior, as exact as the denoiser's own. A two-sided denoiser makes one call; any
        other is asked once about each of L places, with the evidence there removed, and all V
        log-probabilities of every token are held.
    """
    sides = between(denoiser)
    return _place_by_place(denoiser, state) if sides is None else sides(state, state)


def _place_by_place(denoiser: Denoiser, state: State) -> DensePosterior:
    shape, size = state.known.shape, denoiser.codebook.vocabulary_size
    log_probs, calls = [], 0
    for place, only in enumerate(torch.eye(shape[-1], dtype=torch.bool, device=state.z.device)):
        posterior = denoiser(state.forget(only.expand(shape)))
        log_probs.append(posterior.cropped(place, place + 1).log_probs_of(0, size))
        calls += posterior.calls
    return DensePosterior(torch.cat(log_probs, 1), denoiser.codebook, calls)
