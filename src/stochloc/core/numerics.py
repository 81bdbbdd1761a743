"""Random draws and logarithms that stay exact where float32 would not.

Categorical draws go through the inverse of a float64 cumulative sum: float32 noise has too few
distinct values to reach rare tokens, and the missing tail acts like a lowered temperature. Apple's
MPS has no float64, so there the draw is made on the CPU and only the drawn indices are moved back.

Stratified uniforms `(k + u_k) / n` keep a Monte-Carlo average unbiased while its variance falls
faster than `1/n`.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.streams import Randomness


def in_double(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return `x` in float64, on the CPU where its device has no float64.

    Args:
        x: Any real tensor.

    Returns:
        The same values as float64.
    """
    if x.is_mps:
        return x.cpu().double()
    return x.double()


def log_sum_exp(x: Float[Tensor, "*batch block"]) -> Float[Tensor, "*batch"]:
    """Return `log Σ exp x` of each row, `-∞` where all of a row is `-∞`.

    Args:
        x: Logarithms of weights, `-∞` for a weight of 0.

    Returns:
        The logarithms of the sums. Gradients and tangents of a row of zero weights are 0, where
        torch's own are NaN.
    """
    is_nothing = (x == -torch.inf).all(-1)
    sums = x.masked_fill(is_nothing[..., None], 0.0).logsumexp(-1)
    return sums.masked_fill(is_nothing, -torch.inf)


def draw_uniform(
    shape: tuple[int, ...], generator: Randomness, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "..."]:
    """Return uniforms in `[0, 1)` on the generator's device.

    Args:
        shape: The shape of the result.
        generator: Source of randomness.
        dtype: Floating type of the result; float32 replaces float64 on MPS.

    Returns:
        Independent uniforms.
    """
    if generator.device.type == "mps":
        dtype = torch.float32
    if not isinstance(generator, torch.Generator):
        return generator.draw(lambda row, own: row.uniform_(generator=own), shape, dtype)
    return torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)


def draw_normal_like(x: Float[Tensor, "*shape"], generator: Randomness) -> Float[Tensor, "*shape"]:
    """Return standard normal noise with the shape, type and device of `x`.

    Args:
        x: Gives shape, type and device.
        generator: Source of randomness; if it is on another device than `x`, its draws are moved.

    Returns:
        Independent `N(0, 1)` values.
    """
    if not isinstance(generator, torch.Generator):
        noise = generator.draw(lambda row, own: row.normal_(generator=own), tuple(x.shape), x.dtype)
    else:
        noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
    return noise.to(x.device)


def draw_categorical(
    probs: Float[Tensor, "*batch vocabulary"], generator: Randomness
) -> Int[Tensor, "*batch"]:
    """Draw one index per row in proportion to `probs`; an index of weight 0 is never drawn.

    Args:
        probs: Weights, at least 0 and not all 0 in a row; they need not sum to 1.
        generator: Source of randomness.

    Returns:
        The drawn indices, exact to float64.
    """
    u = draw_uniform((*probs.shape[:-1], 1), generator)
    return quantile(probs, u.squeeze(-1))


def quantile(
    probs: Float[Tensor, "*batch vocabulary"], u: Float[Tensor, "*batch"]
) -> Int[Tensor, "*batch"]:
    """Return the index at which the cumulative distribution of each row passes a level.

    Args:
        probs: Weights, at least 0 and not all 0 in a row; they need not sum to 1.
        u: Levels, in `[0, 1)`. Of uniform ones, the indices are draws in proportion to `probs`.

    Returns:
        The indices, exact to float64; never one of weight 0.
    """
    cdf = in_double(probs).cumsum(-1)
    level = _below(u, cdf[..., -1:])
    return torch.searchsorted(cdf, level, right=True).squeeze(-1).to(probs.device)


def draw_categorical_in_blocks(
    blocks: Callable[[], Iterable[Float[Tensor, "*batch block"]]], generator: Randomness
) -> Int[Tensor, "*batch"]:
    """Draw as `draw_categorical` does, with only one block of the weights in memory at a time.

    Args:
        blocks: Returns the blocks of weights in order, the same at every call.
        generator: Source of randomness, advanced as far as by `draw_categorical`.

    Returns:
        The drawn indices, exact to float64, on the device of the sums (`in_double`); equal to those
        of `draw_categorical` except where rounding of the sum decides. Two passes over the blocks.
    """
    total = _total(blocks())
    u = draw_uniform(tuple(total.shape), generator).squeeze(-1)
    return _quantile_below(blocks(), u, total)


def quantile_in_blocks(
    blocks: Callable[[], Iterable[Float[Tensor, "*batch block"]]], u: Float[Tensor, "*batch"]
) -> Int[Tensor, "*batch"]:
    """Return what `quantile` does, with only one block of the weights in memory at a time.

    Args:
        blocks: Returns the blocks of weights in order, the same at every call.
        u: Levels, in `[0, 1)`.

    Returns:
        The indices, exact to float64, on the device of the sums (`in_double`); equal to those of
        `quantile` except where rounding of the sum decides. Two passes over the blocks.
    """
    return _quantile_below(blocks(), u, _total(blocks()))


def _cumulate(
    blocks: Iterable[Float[Tensor, "*batch block"]],
) -> Iterator[Float[Tensor, "*batch block"]]:
    """Yield the cumulative sum over all blocks, block by block."""
    before: Tensor | float = 0.0
    for block in blocks:
        cdf = before + in_double(block).cumsum(-1)
        before = cdf[..., -1:]
        yield cdf


def _total(blocks: Iterable[Float[Tensor, "*batch block"]]) -> Float[Tensor, "*batch 1"]:
    return [cdf[..., -1:] for cdf in _cumulate(blocks)][-1]


def _quantile_below(
    blocks: Iterable[Float[Tensor, "*batch block"]],
    u: Float[Tensor, "*batch"],
    total: Float[Tensor, "*batch 1"],
) -> Int[Tensor, "*batch"]:
    level = _below(u, total)
    return torch.stack([(cdf <= level).sum(-1) for cdf in _cumulate(blocks)]).sum(0)


def _below(u: Float[Tensor, "*batch"], total: Float[Tensor, "*batch 1"]) -> Tensor:
    level = u[..., None].to(total) * total
    # `u * total` may round up to `total`, which would select an index past the last positive one.
    return torch.minimum(level, torch.nextafter(total, torch.zeros_like(total)))


def draw_stratified(
    rows: int, strata: int, generator: Randomness, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "rows strata"]:
    """Return uniforms of which each row has exactly one in each of `strata` equal intervals.

    Args:
        rows: Number of independent rows.
        strata: Number of intervals of `[0, 1)`.
        generator: Source of randomness.
        dtype: Floating type of the result.

    Returns:
        Increasing rows of values in `[0, 1)`; each column's average over rows and columns is an
        unbiased estimate of an integral over `[0, 1]`.
    """
    u = draw_uniform((rows, strata), generator, dtype)
    # In float32 `99 + u` may round up to 100, and paths are not defined at time 1.
    times = (torch.arange(strata, device=u.device, dtype=u.dtype) + u) / strata
    return times.clamp(max=1 - torch.finfo(u.dtype).eps)
