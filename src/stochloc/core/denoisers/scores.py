"""What temperature, guidance and a nucleus make of log-probabilities, block by block.

The nucleus of mass m is the set of the most likely values, as few as have a probability of m
together: all with `log Q ≥ t` for the largest t at which these have it. The values below t have
less than `1 - m` together with one at t, so `t > log((1 - m)/V)`. From there up to the mode t is
found by histograms of the mass over log-probability, each within one bin of the one before: a
pass over the blocks for each, whatever V, and nothing is sorted.
"""

import math
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.numerics import in_double

# Each pass is finer by the number of bins: four are as fine as float64 at 1,024.
BINS, PASSES = 1024, 4


def relative_to(
    highest: Float[Tensor, "batch length 1"],
    log_probs: Float[Tensor, "batch length block"],
    temperature: float,
) -> Float[Tensor, "batch length block"]:
    """Return `(log Q(v|z) - highest)/temperature`, the scores of a tempered posterior.

    Args:
        highest: Log-probability of the most likely value.
        log_probs: Of any block of the vocabulary.
        temperature: Positive.

    Returns:
        Nats up to a constant. The limits of the temperature are the mode and all that is possible.
    """
    # Never divided by a subnormal or by what the type takes for infinite: that would give NaN.
    relative = log_probs - highest
    real = torch.finfo(relative.dtype)
    return relative / min(max(temperature, real.tiny), real.max)


def guide(
    log_probs: Float[Tensor, "batch length block"],
    unconditional: Float[Tensor, "batch length block"],
    strength: float,
) -> Float[Tensor, "batch length block"]:
    """Return `log Q_u + strength (log Q - log Q_u)`, the scores of a guided posterior.

    Args:
        log_probs: `log Q(v|z)` of any block of the vocabulary.
        unconditional: `log Q_u(v|z)` of the same block.
        strength: Positive.

    Returns:
        Nats up to a constant; `-∞` for what either one rules out.
    """
    possible = log_probs.isfinite() & unconditional.isfinite()
    gain = log_probs - unconditional
    return torch.where(possible, unconditional + strength * gain, -torch.inf)


def nucleus_threshold(
    blocks: Callable[[], Iterable[Float[Tensor, "batch length block"]]], size: int, mass: float
) -> Float[Tensor, "batch length"]:
    """Return the log-probability down to which the most likely values have a mass together.

    Args:
        blocks: Gives `log Q(v|z)` in blocks of the vocabulary, the same each time it is called.
        size: Number of values, V.
        mass: In `(0, 1]`.

    Returns:
        Nats, to 1e-10; `-∞` for a mass of 1. Five passes over the blocks.

    Raises:
        ValueError: The mass is not in `(0, 1]`.
    """
    if not 0 < mass <= 1:
        raise ValueError(f"The mass of a nucleus must lie in (0, 1], not be {mass}.")
    highest = torch.stack([in_double(block.amax(-1)) for block in blocks()]).amax(0)
    if mass == 1:
        return torch.full_like(highest, -torch.inf)
    # Just above the mode nothing has any mass, just below the other end all that is needed.
    high = highest + 1e-9
    low = torch.minimum(high - 1e-6, torch.full_like(high, math.log((1 - mass) / size) - 1e-9))
    above = torch.zeros_like(high)
    for _ in range(PASSES):
        width = (high - low) / BINS
        held = _mass_in_bins(blocks(), low, width)
        # Mass from each bin's lower end upwards.
        reached = above[..., None] + held.flip(-1).cumsum(-1).flip(-1)
        bin_ = ((reached >= mass).sum(-1) - 1).clamp(min=0)
        above = (reached - held).gather(-1, bin_[..., None]).squeeze(-1)
        low, high = low + bin_ * width, low + (bin_ + 1) * width
    return low


def _mass_in_bins(
    blocks: Iterable[Float[Tensor, "batch length block"]],
    low: Float[Tensor, "batch length"],
    width: Float[Tensor, "batch length"],
) -> Float[Tensor, "batch length bins"]:
    held = torch.zeros(*low.shape, BINS, dtype=low.dtype, device=low.device)
    for block in blocks:
        log_probs = in_double(block)
        place = ((log_probs - low[..., None]) / width[..., None]).floor()
        inside = (place >= 0) & (place < BINS)
        weights = torch.where(inside, log_probs.exp(), 0.0)
        held.scatter_add_(-1, torch.where(inside, place, 0.0).long(), weights)
    return held
