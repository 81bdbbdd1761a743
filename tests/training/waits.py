"""What would wait for a device: numbers that are read, and shapes that depend on numbers."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique")


class Waits(TorchDispatchMode):
    """Notes every operation within a block, in this thread, that would wait for its device."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            getattr(index, "dtype", None) == torch.bool
            for index in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ())
        )
        if name in WAITING or by_mask:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))
