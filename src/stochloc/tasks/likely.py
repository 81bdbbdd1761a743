"""The likeliest tokens of a posterior, without holding the others."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import Posterior
from stochloc.core.denoisers.blocked import BLOCK_SIZE


def likeliest(
    posterior: Posterior, num: int
) -> tuple[Float[Tensor, "batch length few"], Int[Tensor, "batch length few"]]:
    """Return the likeliest tokens of every place; exact.

    Args:
        posterior: What a denoiser believes.
        num: How many, at least 1; fewer where the vocabulary is smaller.

    Returns:
        Their probabilities and the tokens, the likeliest first. No denoiser call.
    """
    size = posterior.codebook.vocabulary_size
    best, tokens = list[Tensor](), list[Tensor]()
    for begin in range(0, size, BLOCK_SIZE):
        block = posterior.log_probs_of(begin, min(begin + BLOCK_SIZE, size))
        found = block.topk(min(num, block.shape[-1]))
        best.append(found.values)
        tokens.append(found.indices + begin)
    of_all = torch.cat(best, -1).topk(min(num, size))
    return of_all.values.exp(), torch.cat(tokens, -1).gather(-1, of_all.indices)
