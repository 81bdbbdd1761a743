"""Several machines that train one model: who starts the processes, and where they meet.

Either torchrun starts them all and says how many there are, or the same command is started once on
every machine, with `MASTER_ADDR`, `MASTER_PORT` and `NODE_RANK` in its environment. A cluster's
scheduler that Lightning knows, such as Slurm, says the same in its own way.
"""

import os
from collections.abc import Mapping
from typing import Any

from torch import distributed

_MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def as_started(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes of `Hardware` with what torchrun has decided, if it started this process.

    Args:
        asked: What a user named; None where nothing.

    Returns:
        The same, with `devices` and `num_nodes` filled in.

    Raises:
        ValueError: torchrun has started another number of processes than the user asks for, or not
            as many on every machine.
    """
    if not is_by_torchrun():
        return dict(asked)
    here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    machines = int(os.environ["GROUP_WORLD_SIZE"])
    if here * machines != everywhere:
        raise ValueError(
            f"torchrun has started {everywhere} processes on {machines} machines, and {here} on "
            "this one: start equally many on each, with --nproc-per-node."
        )
    started = {"devices": here, "num_nodes": machines}
    for name, number in started.items():
        if asked.get(name) not in (None, number):
            flag = name.replace("_", "-")
            raise ValueError(
                f"torchrun has started {here} processes on each of {machines} machines: leave out "
                f"--{flag} {asked[name]}."
            )
    return {**asked, **started}


def is_by_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def _is_by_scheduler() -> bool:
    from lightning_fabric.plugins.environments.lsf import LSFEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    return SLURMEnvironment.detect() or LSFEnvironment.detect()


def meeting_place(num_nodes: int) -> str | None:
    """Return where the processes of several machines meet.

    Args:
        num_nodes: Number of machines.

    Returns:
        Address and port; None if there is one machine, or whoever starts the processes knows.

    Raises:
        ValueError: Nobody has said where, or this machine's number is none of theirs.
    """
    if num_nodes == 1 or is_by_torchrun() or _is_by_scheduler():
        return None
    absent = [name for name in _MEETING if name not in os.environ]
    if absent:
        raise ValueError(
            f"This machine does not know where the {num_nodes} machines meet: start the command by "
            f"torchrun on each of them, or set {', '.join(absent)}."
        )
    address, port, number = (os.environ[name] for name in _MEETING)
    if not (number.isdecimal() and int(number) < num_nodes):
        raise ValueError(
            f"NODE_RANK is {number[:40]!r}: set it to this machine's number, from 0 to "
            f"{num_nodes - 1}."
        )
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"MASTER_PORT is {port[:40]!r}: set it to a port from 1 to 65535.")
    return f"{address}:{port}"
