"""Modules of shapes alone, for what must be known of a model before there is memory for it.

On torch's meta device a tensor has neither memory nor values. The functions that would draw values
there still import torch's compiler, which takes as long as torch itself: here they draw nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode


class _Undrawn(TorchFunctionMode):
    """Leaves a tensor as it is where it would be filled with random numbers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        given = dict(kwargs or {})
        if getattr(func, "__module__", None) == init.__name__:
            return args[0] if args else given["tensor"]
        if func is torch.randn:
            given.pop("generator", None)
            return torch.empty(*args, **given)
        return func(*args, **given)


@contextmanager
def unfilled() -> Iterator[None]:
    """Give the modules made inside shapes and neither memory nor values."""
    with torch.device("meta"), _Undrawn():
        yield
