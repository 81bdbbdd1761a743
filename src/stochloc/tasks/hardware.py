"""Where a run trains, in which precision and how: stored in the run, since results depend on it.

Every command that opens a run reads this, and only training needs Lightning, whose import takes as
long as torch's: it is imported when processes are launched.
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch.distributed import DistError

from stochloc.nn.declared import check_types
from stochloc.tasks.machines import meeting_place
from stochloc.terminal import tell
from stochloc.training.execution import Execution, PrecisionName, has_compiler

if TYPE_CHECKING:
    import lightning_fabric

NAMES = {
    "accelerator": ("auto", "cpu", "cuda", "mps"),
    "strategy": ("auto", "ddp", "fsdp"),
    "precision": get_args(PrecisionName),
}


@dataclass(frozen=True)
class Hardware:
    """Where a run trains.

    Attributes:
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: Number of processes on every machine, one per device.
        strategy: "auto", "ddp" or "fsdp".
        precision: "32-true", "bf16-mixed", "16-mixed" or "bf16-true": see `training.precision`.
        num_nodes: Number of machines.
        accumulate: As in `training.execution.Execution`, on which results depend by rounding alone.
        checkpoint_activations: The same.
        compile: The same.
    """

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: PrecisionName = "32-true"
    num_nodes: int = 1
    accumulate: int = 1
    checkpoint_activations: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        for name, names in NAMES.items():
            value = getattr(self, name)
            if value not in names:
                allowed = ", ".join(names)
                raise ValueError(f"The {name} is one of {allowed}, not {str(value)[:40]!r}.")
        if self.devices < 1:
            raise ValueError(f"Training needs at least one device, not {self.devices}.")
        if self.num_nodes < 1:
            raise ValueError(f"Training needs at least one machine, not {self.num_nodes}.")
        _ = self.execution

    @property
    def num_processes(self) -> int:
        """Number of processes on all machines together."""
        return self.num_nodes * self.devices

    @property
    def execution(self) -> Execution:
        """How an update is computed."""
        return Execution(self.accumulate, self.checkpoint_activations, self.compile)

    def changed(self, named: Mapping[str, Any]) -> "Hardware":
        """Return the same with what a user named.

        Args:
            named: Attributes; None leaves what there is.

        Returns:
            The hardware.

        Raises:
            ValueError: A value is out of range.
        """
        given = {name: value for name, value in named.items() if value is not None}
        return replace(self, **given)

    def resolved(self) -> "Hardware":
        """Return the same with "auto" replaced by what this machine has.

        Returns:
            The hardware.

        Raises:
            ValueError: The machine has no such accelerator, or not as many of them, or it does not
                know where several machines meet.
        """
        accelerator = available_accelerator(self.accelerator)
        if accelerator == "cuda" and torch.cuda.device_count() < self.devices:
            raise ValueError(
                f"This machine has {torch.cuda.device_count()} CUDA devices, not {self.devices}."
            )
        if self.compile and accelerator == "cpu" and not has_compiler():
            raise ValueError(
                "This machine has no C++ compiler, which --compile needs on a CPU: install g++, or "
                "train without it."
            )
        meeting_place(self.num_nodes)
        several = "ddp" if self.strategy == "auto" else self.strategy
        strategy = several if self.num_processes > 1 or several == "fsdp" else "auto"
        if strategy == "fsdp" and self.precision == "16-mixed":
            raise ValueError("Shards have no scaled gradients: use bf16-mixed, or --strategy ddp.")
        return replace(self, accelerator=accelerator, strategy=strategy)

    def launch(self) -> "lightning_fabric.Fabric":
        """Return a Fabric whose processes are running.

        Returns:
            The launched Fabric.

        Raises:
            ValueError: The machine has no such devices.
        """
        from lightning_fabric import Fabric

        from stochloc.training.precision import precision_plugin
        from stochloc.training.sharding import Sharded

        own = self.resolved()
        place = meeting_place(own.num_nodes)
        if place is not None:
            tell(f"stochloc: {own.num_nodes} machines meet at {place}.")
        try:
            with _silent_fabric():
                fabric = Fabric(
                    accelerator=own.accelerator,
                    devices=own.devices,
                    num_nodes=own.num_nodes,
                    strategy=Sharded(own.num_processes) if own.strategy == "fsdp" else own.strategy,
                    plugins=[precision_plugin(own.precision, own.accelerator)],
                )
                fabric.launch()
        except DistError as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"The {own.num_processes} processes did not find each other: start the same "
                f"command on every machine, with an address that all of them reach ({reason})."
            ) from error
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise ValueError(f"This machine cannot train like that: {error}") from error
        return fabric

    def __str__(self) -> str:
        several = "" if self.num_processes == 1 else f" x {self.devices} ({self.strategy})"
        machines = "" if self.num_nodes == 1 else f" on {self.num_nodes} machines"
        how = "".join(f", {how}" for how in (str(self.execution),) if how)
        return f"{self.accelerator}{several}{machines}, {self.precision}{how}"


@contextmanager
def _silent_fabric() -> Iterator[None]:
    """Keep Lightning from a line for every process; and from ending processes in its own way."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
    for thread in threading.enumerate():
        # It would kill all processes, without a word, before `training.processes` says why.
        if thread.name == "child-process-observer":
            thread.__dict__["_child_processes"] = []


def available_accelerator(accelerator: str) -> str:
    """Return the accelerator that a name means on this machine.

    Args:
        accelerator: "auto", "cpu", "cuda" or "mps".

    Returns:
        "cpu", "cuda" or "mps".

    Raises:
        ValueError: The machine does not have it.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator == "auto":
        return next((name for name, is_there in available.items() if is_there), "cpu")
    if not available.get(accelerator, True):
        raise ValueError(f"This machine has no {accelerator}; use --accelerator cpu.")
    return accelerator


def own_device(accelerator: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the device of this process, one for each of those that `torchrun` started.

    Args:
        accelerator: "auto", "cpu", "cuda" or "mps".
        environment: Variables of this process.

    Returns:
        The name of a device of torch: of several CUDA devices the one whose turn it is.

    Raises:
        ValueError: The machine does not have it.
    """
    kind = available_accelerator(accelerator)
    if kind != "cuda" or "LOCAL_RANK" not in environment:
        return kind
    return f"cuda:{int(environment['LOCAL_RANK']) % torch.cuda.device_count()}"


# What a user who asks for it gets, or an error: never something near it.
_ASKED_FOR = ("accelerator", "devices", "num_nodes", "compile")
# What a run keeps on a machine that lacks its accelerator or its devices.
_ON_ANY_MACHINE = ("precision", "accumulate", "checkpoint_activations")


@dataclass(frozen=True)
class Continuation:
    """The hardware on which a run continues.

    Attributes:
        here: The hardware, resolved.
        kept: What the run stores for the next time: `here`, unless the machine forced the change.
        warning: Why results will differ from those of an uninterrupted run; None if they will not.
    """

    here: Hardware
    kept: Hardware
    warning: str | None = None


def resumed_hardware(kept: Hardware | None, asked: dict[str, Any]) -> Continuation:
    """Return where a run continues: as before, unless the user or the machine demands otherwise.

    Args:
        kept: Where it has trained; None for a run of a version that did not store it.
        asked: Attributes of `Hardware` that the user gave; None leaves what was stored.

    Returns:
        The hardware, and a warning if it differs.

    Raises:
        ValueError: The machine does not have what the user asked for.
    """
    if kept is None:
        here = Hardware().changed(asked).resolved()
        return Continuation(here, here)
    wanted = kept.changed(asked)
    try:
        here, remembered, reason = wanted.resolved(), wanted.resolved(), "as asked"
    except ValueError as error:
        if any(asked.get(name) is not None for name in _ASKED_FOR):
            raise
        here = _nearest(wanted, asked)
        remembered, reason = kept, str(error).rstrip(".")
    if here == kept:
        return Continuation(here, kept)
    return Continuation(
        here,
        remembered,
        f"this run has trained on {kept}, and continues on {here} ({reason}): its numbers will "
        "differ from those of a run that was never stopped.",
    )


def _nearest(wanted: Hardware, asked: dict[str, Any]) -> Hardware:
    """Return what this machine, alone, has of the hardware of a run."""
    for less in ({"compile": False}, {"num_nodes": 1}, {"compile": False, "num_nodes": 1}):
        with suppress(ValueError):
            return replace(wanted, **less).resolved()
    stays = {name: getattr(wanted, name) for name in _ON_ANY_MACHINE}
    return Hardware().changed({**asked, **stays}).resolved()


def hardware_from_dict(values: Any) -> Hardware:  # noqa: ANN401
    """Return the hardware that `asdict` described.

    Args:
        values: As read from JSON.

    Returns:
        The hardware.

    Raises:
        ValueError: A part is missing, unknown or of another type.
    """
    try:
        return Hardware(**values)
    except TypeError as error:
        raise ValueError(f"The description of the hardware is damaged: {error}.") from error
