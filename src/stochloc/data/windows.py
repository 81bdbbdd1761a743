"""Windows of fixed length cut from a long array of tokens.

Knows nothing of text: any one-dimensional integer array can be used, memory-mapped or not.
"""

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor


def draw_windows(
    tokens: Integer[np.ndarray, " tokens"],
    num_windows: int,
    length: int,
    generator: torch.Generator,
) -> Int64[Tensor, "num length"]:
    """Return windows whose positions are drawn uniformly, with replacement.

    Args:
        tokens: the text, shape (tokens,).
        num_windows: how many windows to draw.
        length: tokens per window.
        generator: the source of randomness.

    Returns:
        Windows on the CPU, shape (num_windows, length).

    Raises:
        ValueError: the text is shorter than a window.
    """
    check_length(tokens, length)
    highest = len(tokens) - length + 1
    starts = torch.randint(highest, (num_windows,), generator=generator, device=generator.device)
    return cut_windows(tokens, starts.cpu().numpy(), length)


def held_out_windows(
    tokens: Integer[np.ndarray, " tokens"], length: int, limit: int | None = None
) -> Int64[Tensor, "num length"]:
    """Return windows that do not overlap, the same in every call.

    Args:
        tokens: the text, shape (tokens,).
        length: tokens per window.
        limit: at most this many windows, evenly spaced over the text; None: all of them.

    Returns:
        Windows in the order of the text, shape (num, length); a remainder shorter than a window is
        left out.

    Raises:
        ValueError: the text is shorter than a window, or the limit is less than one.
    """
    check_length(tokens, length)
    if limit is not None and limit < 1:
        raise ValueError(f"At most {limit} windows were requested; ask for at least one.")
    available = len(tokens) // length
    chosen = available if limit is None else min(limit, available)
    return cut_windows(tokens, np.arange(chosen) * available // chosen * length, length)


def check_length(tokens: Integer[np.ndarray, " tokens"], length: int) -> None:
    """Refuse a text that is shorter than a window.

    Args:
        tokens: the text, shape (tokens,).
        length: tokens per window.

    Raises:
        ValueError: it is shorter, or a window has no token.
    """
    if length < 1:
        raise ValueError(f"A window of {length} tokens was requested; ask for at least one token.")
    if len(tokens) < length:
        raise ValueError(
            f"The text has {len(tokens)} tokens but a window takes {length}; give a longer text."
        )


def cut_windows(
    tokens: Integer[np.ndarray, " tokens"], starts: Int64[np.ndarray, " num"], length: int
) -> Int64[Tensor, "num length"]:
    """Return the windows that begin at given places.

    Args:
        tokens: the text, shape (tokens,).
        starts: the places, shape (num,).
        length: tokens per window.

    Returns:
        Windows on the CPU, shape (num, length).
    """
    windows = np.asarray(tokens[starts[:, None] + np.arange(length)])
    return torch.from_numpy(windows.astype(np.int64))
