"""The walk from left to right, one place a step, with a denoiser that remembers what it has read.

It draws what the plain walk draws, from the same streams: there every step draws a uniform u for
each place of the sequences that move, and the token of the place in turn is the one at which its
cumulative distribution passes u. The uniforms do not depend on the answers, so they are drawn
first, each step's in turn, and those of the places in turn are kept. What is left is one pass over
the places:

    x_i = F_i^-1(u_i),    F_i the distribution function of  Q(x_i | x_<i, z_>i) exp(z_i·x_i).

Sequences in which other places are given are passed over there together. Given tokens are read and
not asked about: reading begins at the left end, with all that stands before the first blank at
once, and ends before the last blank; what stands behind it was read when the reader was made.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Denoiser
from stochloc.core.denoisers.reading import Reader, read
from stochloc.core.numerics import draw_uniform
from stochloc.core.paths.base import Free
from stochloc.core.policies.base import Pace
from stochloc.core.streams import Randomness, among


def reader_for(denoiser: Denoiser, state: State, pace: Pace) -> Reader | None:
    """Return how to take a walk by reading.

    Args:
        denoiser: The denoiser of the walk.
        state: Where the walk begins.
        pace: The policy at work on it.

    Returns:
        The reader; None if the walk decides tokens otherwise than one by one from left to right, or
        if the denoiser cannot read.
    """
    free = ~state.is_known
    if pace.one_by_one is None or not bool(free.any()):
        return None
    from_the_left = free.cumsum(-1) - 1
    if not torch.equal(pace.one_by_one[free], from_the_left[free]):
        return None
    return read(denoiser, state)


def read_through(reader: Reader, state: State, generator: Randomness) -> tuple[Tensor, int]:
    """Walk from left to right by reading.

    Args:
        reader: Reads the state, at the left end.
        state: Where the walk begins, with a free token at least.
        generator: Source of randomness, advanced as far as by the plain walk.

    Returns:
        The tokens, those of the plain walk up to rounding, and the number of calls: one for each
        place that is free in some sequence, each about that place alone.
    """
    free = ~state.is_known
    levels = _levels(free, generator)
    tokens, read_to, calls = state.known.clone(), 0, 0
    for place in free.any(0).nonzero().flatten().tolist():
        here = slice(place, place + 1)
        answer = reader.next(tokens[:, read_to:place])
        # Where the token is given, the posterior is certain of it at any level.
        posterior = answer.observed(state.cropped(place, place + 1))
        tokens[:, here] = posterior.quantile(levels[:, here])
        read_to, calls = place, calls + answer.calls
    return tokens, calls


def _levels(free: Free, generator: Randomness) -> Float[Tensor, "batch length"]:
    """Return the uniform by which the plain walk decides each free token, 0 elsewhere."""
    num_free = free.sum(-1)
    places = (~free).int().argsort(dim=-1, stable=True).to(generator.device)
    kept = []
    for n in range(int(num_free.max())):
        drawn = draw_uniform((*free.shape, 1), among(generator, n < num_free)).squeeze(-1)
        kept.append(drawn.gather(-1, places[:, n : n + 1]))
    levels = torch.cat(kept, -1)
    # A sequence with fewer free tokens than another did not draw in the last steps.
    return levels.new_zeros(free.shape).scatter(-1, places[:, : levels.shape[-1]], levels)
