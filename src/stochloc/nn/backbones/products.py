"""The precision in which backbones multiply matrices while gradients are recorded."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch

_HALF_PRODUCTS = ContextVar("half_products", default=False)


@contextmanager
def half_products() -> Iterator[None]:
    """Make transformers round the factors of matrix products to bfloat16 within a block.

    Only while gradients are recorded: faster where the processor knows that type, and without
    effect on bounds and samples, which record none.

    Yields:
        Nothing; then products are taken as before.
    """
    before = _HALF_PRODUCTS.set(True)
    try:
        yield
    finally:
        _HALF_PRODUCTS.reset(before)


def rounded_products(device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a transformer multiplies: see `half_products`.

    Args:
        device: Where its inputs are.

    Returns:
        A context manager without effect unless `half_products` is on and gradients are recorded.
    """
    is_half = _HALF_PRODUCTS.get() and torch.is_grad_enabled()
    return torch.autocast(device.type, torch.bfloat16) if is_half else nullcontext()
