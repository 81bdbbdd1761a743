"""What is refused at the entrance: values of the wrong kind, and tokens that do not exist.

Without these checks a slip, such as a path in the place of a policy or a numpy array in the place
of a tensor, would end in an error message about the inside of the library.
"""

import torch
from torch import Tensor

from stochloc.core.codebook import Codebook

# What torch takes as an index; smaller integers it refuses.
INDEX_TYPES = (torch.int32, torch.int64)


def check_kind(value: object, kind: type, needed: str, hint: str = "") -> None:
    """Refuse a value of another kind, or a class in the place of one of its values.

    Args:
        value: What was given.
        kind: The class or protocol of which it must be.
        needed: What is needed, for the beginning of a sentence.
        hint: What may help, for its end.

    Raises:
        ValueError: It is not of this kind.
    """
    if isinstance(value, type) or not isinstance(value, kind):
        raise ValueError(f"{needed} is needed here, not {_named(value)}{hint}.")


def check_tokens(codebook: Codebook, tokens: object, lowest: int = 0) -> None:
    """Refuse what is not a batch of sequences over the vocabulary; waits for the device.

    Args:
        codebook: Gives the size of the vocabulary, V.
        tokens: What was given as sequences of tokens.
        lowest: The smallest number allowed, `-1` where a place may have no token.

    Raises:
        ValueError: It is not a tensor of integers of shape `(B, L)`, or a number is below `lowest`
            or not below V.
    """
    if not isinstance(tokens, Tensor):
        raise ValueError(f"Tokens are given as a tensor of shape (B, L), not as {_named(tokens)}.")
    if tokens.ndim != 2 or tokens.dtype not in INDEX_TYPES:
        raise ValueError(
            "Tokens are given as a tensor of type torch.int64 and shape (B, L), a row for each "
            f"sequence, not of type {tokens.dtype} and shape {tuple(tokens.shape)}."
        )
    outside = (tokens < lowest) | (tokens >= codebook.vocabulary_size)
    if bool(outside.any()):
        raise ValueError(
            "The tokens of this vocabulary are the numbers from 0 to "
            f"{codebook.vocabulary_size - 1}, and {int(tokens[outside][0])} is not one of them."
        )


def _named(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
