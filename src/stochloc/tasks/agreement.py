"""What the processes that train one model must have in common: the text, the recipe, the folder."""

import os
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from lightning_fabric import Fabric
from torch import distributed

# A file of the run's folder, for the moment in which all processes look for it.
SIGHT = ".sight"
# For a network disk to show on one machine what was written on another.
PATIENCE_S = 20.0


def check_alike(fabric: Fabric, facts: Mapping[str, str]) -> None:
    """Refuse to train where processes would train different things; collective.

    Args:
        fabric: The launched Fabric.
        facts: What must be equal, by its name for a message.

    Raises:
        ValueError: A process differs from the first; raised in all of them.
    """
    if fabric.world_size == 1:
        return
    told = _gathered(fabric, {**facts, "host": socket.gethostname()})
    for number, own in enumerate(told):
        for name in facts:
            if own[name] != told[0][name]:
                raise ValueError(
                    f"Process {number + 1} of {len(told)}, on {own['host']}, has another {name} "
                    "than the first: give the same command, files and version on every machine."
                )


def check_shared(fabric: Fabric, folder: Path) -> None:
    """Refuse a folder that is not the same for all processes; collective.

    Args:
        fabric: The launched Fabric.
        folder: The run's folder, which the first process has locked.

    Raises:
        ValueError: A process does not see what the first has written there; raised in all of them.
    """
    if fabric.world_size == 1:
        return
    sight, token = folder / SIGHT, fabric.broadcast(secrets.token_hex())
    if fabric.is_global_zero:
        sight.write_text(token)
    fabric.barrier()
    told = _gathered(fabric, {"sees": _sees(sight, token), "host": socket.gethostname()})
    if fabric.is_global_zero:
        sight.unlink()
    for number, own in enumerate(told):
        if not own["sees"]:
            raise ValueError(
                f"Process {number + 1} of {len(told)}, on {own['host']}, does not see the run in "
                f"{folder}: choose an --out on a disk that all machines share."
            )


def _sees(sight: Path, token: str) -> bool:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            if sight.read_text() == token:
                return True
            os.listdir(sight.parent)  # makes a network disk look again
        except OSError:
            pass
        if time.monotonic() > until:
            return False
        time.sleep(0.5)


def _gathered(fabric: Fabric, own: dict[str, object]) -> list[dict[str, object]]:
    told: list[dict[str, object]] = [{}] * fabric.world_size
    distributed.all_gather_object(told, own)
    return told
