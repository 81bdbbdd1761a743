"""Updates that are skipped on the device when a loss or a gradient is not finite.

Whether a number is finite is known only when the device has computed it, and who asks waits. So
nobody asks: the answer stays on the device, as a flag that the optimizer's kernel reads before it
changes a weight or a moment. Once an update has failed all later ones are skipped too, so that the
weights before it are still there when somebody does ask, now and then.

A loss that is not finite makes its gradient NaN, by a factor. Gradients are shared between
processes, so all of them skip the same updates without a message of their own.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import save
from torch import Tensor

from stochloc.training.checkpoint import flatten, replacing

FAILURE = "failure.safetensors"
NEVER = 2**62


@runtime_checkable
class Watch(Protocol):
    """Looks at the losses and the gradient of every update."""

    def weighed(self, loss: Tensor) -> Tensor:
        """Return the loss of which the gradient is taken."""
        ...

    def judge(self, loss: Tensor, norm: Tensor, update: int) -> bool:
        """Look at loss and norm of the gradient; return whether the optimizer takes its step."""
        ...

    @property
    def kept_share(self) -> Tensor | None:
        """1 if the average of the weights follows them, 0 if not; None for 1 without a tensor."""
        ...


class Unwatched:
    """Every update is done, for callers that look at losses themselves."""

    kept_share = None

    def weighed(self, loss: Tensor) -> Tensor:
        """Return the loss."""
        return loss

    def judge(self, loss: Tensor, norm: Tensor, update: int) -> bool:
        """Return True."""
        return True


class FirstFailure:
    """Skips the first update that is not finite and all after it, without waiting for the device.

    Args:
        optimizer: The optimizer, not wrapped. Where its kernel takes a flag (`found_inf`, those
            that torch calls fused), nothing waits for the device; elsewhere every update does.
        is_scaled: Whether a loss scaler shares the work: it expects infinite gradients now and
            then, and skips those updates itself.
        device: Where the module is.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, is_scaled: bool, device: torch.device
    ) -> None:
        self.optimizer, self.is_scaled = optimizer, is_scaled
        self.update = torch.full((), NEVER, dtype=torch.long, device=device)
        self.loss = torch.zeros((), device=device)
        self.norm = torch.zeros((), device=device)

    @property
    def has_failed(self) -> Tensor:
        """Whether there was a failure in this process."""
        return self.update < NEVER

    @property
    def kept_share(self) -> Tensor:
        """0 once an update has failed."""
        return (~self.has_failed).to(torch.float32)

    def weighed(self, loss: Tensor) -> Tensor:
        """Return the loss, times NaN if it is not finite or an update has failed."""
        is_bad = self.has_failed | ~loss.detach().isfinite()
        return loss * torch.ones_like(loss).masked_fill(is_bad, torch.nan)

    def judge(self, loss: Tensor, norm: Tensor, update: int) -> bool:
        """Note a failure, after which the step is skipped or, by its kernel, changes nothing."""
        is_bad = ~loss.isfinite()
        if not self.is_scaled:
            is_bad = is_bad | ~norm.isfinite()
        is_first = is_bad & ~self.has_failed
        self.loss = torch.where(is_first, loss.float(), self.loss)
        self.norm = torch.where(is_first, norm.float(), self.norm)
        self.update = torch.where(is_first, update, self.update)
        if self.is_scaled:
            return True
        if not getattr(self.optimizer, "_step_supports_amp_scaling", False):
            return not bool(self.has_failed)
        self.optimizer.found_inf = self.has_failed.float()  # pyright: ignore[reportAttributeAccessIssue]
        return True


Reduce = Callable[[Tensor, str], Tensor]


def first_failed(watch: FirstFailure, reduce: Reduce) -> int | None:
    """Return the number of updates before the first that failed in any process; None if none did.

    Args:
        watch: Of this process.
        reduce: Reduces a tensor over all processes, by "mean" or "min"; collective.

    Returns:
        The number. Waits for the device.
    """
    update = int(reduce(watch.update, "min"))
    return None if update == NEVER else update


def write_failure(
    folder: Path, weights: dict[str, Tensor], tokens: Tensor, note: dict[str, Any]
) -> Path:
    """Write what a failed update began with.

    Args:
        folder: The run's folder.
        weights: The weights before the update.
        tokens: Its batch.
        note: What else is to be known, as JSON values.

    Returns:
        The file.
    """
    path = folder / FAILURE
    with replacing(path) as temporary:
        tensors = {**flatten({"model": weights}), "tokens": tokens.contiguous()}
        temporary.write_bytes(save(tensors, metadata={"failure": json.dumps(note)}))
    return path


def failure_message(watch: FirstFailure, update: int, reduce: Reduce, folder: Path) -> str:
    """Return a sentence about a failed update; collective.

    Args:
        watch: Of this process.
        update: The number of updates before it.
        reduce: Reduces a tensor over all processes, by "mean" or "min".
        folder: The run's folder.

    Returns:
        The sentence.
    """
    # The mean over processes: one infinite is all.
    loss, norm = (float(reduce(value, "mean")) for value in (watch.loss, watch.norm))
    name, value = ("gradient", norm) if torch.tensor(loss).isfinite() else ("loss", loss)
    return (
        f"The {name} became {value} in update {update + 1}: lower the learning rate. The batch "
        f"and the weights before it are in {folder / FAILURE}."
    )
