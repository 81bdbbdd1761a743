"""A few places at a time: what is computed for each place by itself, in bounded memory.

The converter and the loss make `B × L × V` numbers on the way from embeddings to embeddings and to
nats. Places do not meet there, so they can be taken a few at a time. The backward pass takes them a
few at a time too: it computes the numbers of a chunk once more and adds the chunk's gradient to
those before,

    ∂loss/∂θ = Σ_chunks (∂answer_chunk/∂θ)ᵀ ∂loss/∂answer_chunk.

Nothing but the answers is kept from one chunk to the next. A graph of all chunks would also keep
many small tensors, which lie between the large ones, so that memory is not used again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Places times vocabulary: 32 MB in float32, of which about six exist at a time.
MOST_NUMBERS = 2**23

Answer = Callable[..., Tensor]


def in_chunks(
    answer: Answer, rows: Sequence[Tensor], shared: Sequence[Tensor], numbers_each: int
) -> Float[Tensor, "places *answer"]:
    """Return an answer about every place, computed a few places at a time.

    Args:
        answer: Given as many rows of each tensor of `rows`, returns an answer about each; draws
            nothing. Called once more about each place in a backward pass.
        rows: Tensors with a row for each place, `(places, ...)`.
        shared: All other tensors whose gradient is wanted. The answer reads them by itself.
        numbers_each: Numbers that are made on the way for one place, at least 1.

    Returns:
        The answers, equal to those about all places at once, and their gradients too, up to
        rounding. Without a place, gradients are 0 and not absent.
    """
    at_once = max(1, MOST_NUMBERS // numbers_each)
    if torch.is_grad_enabled():
        return _InChunks.apply(answer, at_once, len(rows), *rows, *shared)
    return _answers(answer, rows, at_once)


class _InChunks(torch.autograd.Function):
    """Answers about all places, whose graph is made again, chunk by chunk, where it is needed."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        answer: Answer,
        at_once: int,
        num_rows: int,
        *tensors: Tensor,
    ) -> Tensor:
        """Return the answers, and keep what they are made from."""
        ctx.answer, ctx.at_once, ctx.tensors, ctx.num_rows = answer, at_once, tensors, num_rows
        ctx.autocast = _present_autocast(tensors[0].device.type)
        return _answers(answer, tensors[:num_rows], at_once)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *grad_outputs: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of rows and shared tensors, added up over the chunks."""
        (gradient,) = grad_outputs
        needed = ctx.needs_input_grad[3:]
        totals = [
            torch.zeros_like(tensor) if is_needed else None
            for tensor, is_needed in zip(ctx.tensors, needed, strict=True)
        ]
        rows, shared = ctx.tensors[: ctx.num_rows], ctx.tensors[ctx.num_rows :]
        for stretch in _stretches(len(rows[0]), ctx.at_once):
            with torch.enable_grad(), ctx.autocast():
                # A graph of its own: what the rows were made from has had its turn, or will have.
                here = [row[stretch].detach() for row in rows]
                for row, is_needed in zip(here, needed, strict=False):
                    row.requires_grad_(is_needed)
                part = ctx.answer(*here)
            wanted = [t for t, is_needed in zip((*here, *shared), needed, strict=True) if is_needed]
            found = iter(torch.autograd.grad(part, wanted, gradient[stretch], allow_unused=True))
            for number, total in enumerate(totals):
                change = None if total is None else next(found)
                if total is not None and change is not None:
                    (total[stretch] if number < ctx.num_rows else total).add_(change)
        return None, None, None, *totals


def _answers(answer: Answer, rows: Sequence[Tensor], at_once: int) -> Tensor:
    num_places, whole = len(rows[0]), None
    for stretch in _stretches(num_places, at_once):
        part = answer(*(row[stretch] for row in rows))
        if whole is None:
            whole = part.new_empty(num_places, *part.shape[1:])
        whole[stretch] = part
    assert whole is not None
    return whole


def _stretches(num_places: int, at_once: int) -> Iterator[slice]:
    """Yield the chunks; a single empty one if there is no place."""
    for begin in range(0, max(1, num_places), at_once):
        yield slice(begin, min(begin + at_once, num_places))


def _present_autocast(device: str) -> Callable[[], AbstractContextManager[Any]]:
    is_enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype=dtype, enabled=is_enabled)
