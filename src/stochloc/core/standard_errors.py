"""Standard errors of averages over windows of one text.

Two things make the textbook formula too small. An average per character is a *ratio*,
`R = Σ_w y_w / Σ_w n_w` of nats and characters, both of which vary from window to window; to first
order its error is that of `Σ_w (y_w - R n_w) / Σ_w n_w` (the delta method). And neighbouring
windows are correlated: a chapter is about one thing. So windows are summed in contiguous *blocks*,
at most `NUM_BLOCKS` of them, and the error is computed from the spread between blocks, which are
long enough to contain most of the correlation:

    √( B/(B - 1) Σ_b r_b² ) / Σ_w n_w,      r_b = Σ_{w in b} (y_w - R n_w),

which for up to `NUM_BLOCKS` windows is the formula for independent ones. With 20 blocks it is
itself accurate to one part in six. Correlation over more than a twentieth of the text is missed.
"""

import math

import torch
from jaxtyping import Float, Real
from torch import Tensor

NUM_BLOCKS = 20


def ratio_stderr(
    totals: Real[Tensor, "windows *columns"], sizes: Real[Tensor, "windows *columns"]
) -> Float[Tensor, "*columns"]:
    """Return the standard error of `Σ totals / Σ sizes` over windows in the order of their text.

    Args:
        totals: What each window adds to the numerator, for example nats.
        sizes: What each adds to the denominator: characters or tokens, or 1 for a mean per window.

    Returns:
        The error, column by column, float64; NaN for fewer than two windows and where no window has
        a size. Consistent for many windows that depend on near neighbours only.
    """
    totals, sizes = totals.double(), sizes.double()
    total_size, num_blocks = sizes.sum(0), min(len(totals), NUM_BLOCKS)
    if num_blocks < 2:
        return torch.full_like(total_size, math.nan)
    residuals = totals - totals.sum(0) / total_size.clamp(min=torch.finfo(sizes.dtype).tiny) * sizes
    blocks = torch.stack([part.sum(0) for part in residuals.tensor_split(num_blocks)])
    spread = (blocks.square().sum(0) * num_blocks / (num_blocks - 1)).sqrt()
    return torch.where(total_size > 0, spread / total_size, math.nan)
