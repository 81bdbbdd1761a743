"""What figures are averaged over: tokens of text, characters and bytes, never labels or boundaries.

Labels are a condition: a bound is of `P(x|y)`, so they cost nothing and are not counted. Boundaries
are the condition on a length. For texts in slots one of many layouts is bounded, so the bound on
the text itself is looser.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from stochloc.core import UNKNOWN
from stochloc.data import Tokenizer
from stochloc.data.codepoints import count_characters
from stochloc.data.labels import first_given


def given_in(
    tokenizer: Tokenizer, rows: Int[Tensor, "batch length"]
) -> Int[Tensor, "batch length"] | None:
    """Return the labels and boundaries among the tokens: they are given, not scored.

    Args:
        tokenizer: Knows which tokens are only ever given.
        rows: Windows of a text, or sequences.

    Returns:
        These tokens, `-1` elsewhere; None if the tokenizer has none.
    """
    if first_given(tokenizer) == tokenizer.vocabulary_size:
        return None
    return rows.masked_fill(rows < first_given(tokenizer), UNKNOWN)


def tokens_in(tokenizer: Tokenizer, windows: Int[Tensor, "batch length"]) -> Int[Tensor, " batch"]:
    """Return how many tokens of each window are scored: all but the given ones.

    Args:
        tokenizer: Knows which tokens are only ever given.
        windows: Windows of a text.

    Returns:
        The numbers, on the CPU.
    """
    known = given_in(tokenizer, windows)
    free = torch.ones_like(windows) if known is None else known == UNKNOWN
    return free.sum(-1).cpu()


def characters_in(
    tokenizer: Tokenizer, windows: Int[Tensor, "batch length"]
) -> Int[Tensor, " batch"]:
    """Return how many characters of text each window of tokens holds.

    Args:
        tokenizer: How the tokens become text.
        windows: Windows of a text.

    Returns:
        The numbers, on the CPU; a character cut by a window's start is counted in the window it
        starts in.
    """
    return torch.tensor([count_characters(raw) for raw in _texts_of(tokenizer, windows)])


def bytes_in(tokenizer: Tokenizer, windows: Int[Tensor, "batch length"]) -> Int[Tensor, " batch"]:
    """Return how many bytes of UTF-8 the text of each window of tokens holds.

    Args:
        tokenizer: How the tokens become text.
        windows: Windows of a text.

    Returns:
        The numbers, on the CPU; of a character cut by a window's end, the bytes within.
    """
    return torch.tensor([len(raw) for raw in _texts_of(tokenizer, windows)])


def _texts_of(tokenizer: Tokenizer, windows: Int[Tensor, "batch length"]) -> Iterator[bytes]:
    return (tokenizer.decode_bytes(row) for row in windows.cpu())


def what_is_counted(tokenizer: Tokenizer, is_labelled: bool = True) -> str:
    """Return in words what "per token" means for a model, and what is bounded.

    Args:
        tokenizer: The model's.
        is_labelled: Whether the text comes with its labels, if the model has classes.

    Returns:
        A phrase for people and reports.
    """
    ends = "" if tokenizer.boundary is None else "; where a sequence ends is given and not counted"
    if tokenizer.labels and not is_labelled:
        return f"tokens of text, whose class is left open{ends}"
    if tokenizer.labels and ends:
        return "tokens of text; labels and where a sequence ends are given and not counted"
    if tokenizer.labels:
        return "tokens of text; labels are given and not counted"
    if ends:
        return f"tokens of text{ends}"
    if tokenizer.slots is not None:
        return (
            "slots, empty ones included; one layout of the text is bounded, which bounds the text "
            "itself from further above"
        )
    return "tokens of text"
