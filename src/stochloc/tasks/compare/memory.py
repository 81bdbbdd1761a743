"""Whether the methods of a comparison fit into memory, told before the first trial.

Most methods compute their losses as published, on all positions and tokens at once, so an update of
B windows of L tokens holds

    4 held B L V bytes,   and 20 bytes for each parameter: weight, gradient, two moments, average,

beside what any process needs. Linux grants memory that it does not have and later kills whoever
uses it, so there would be no error to report, after the trials of other methods are done. Samples
are therefore drawn few texts at a time, and updates that are too large are refused.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from stochloc.methods import METHODS, Frame
from stochloc.nn.unfilled import unfilled

# What torch, the text and the judge take.
PROCESS = 0.5e9
# Positions of a call that samples times tokens of the vocabulary: 128 MB in float32, some twelve
# times as much in all. Batches of other tasks (`tasks.batches`) count the tokens of a block, but
# these methods list all.
MOST_NUMBERS = 2**25
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Need:
    """The memory of a method's update, in bytes.

    Attributes:
        fixed: What does not depend on the batch.
        per_window: What every window of the batch adds.
    """

    fixed: float
    per_window: float

    @classmethod
    def of(cls, method: str, frame: Frame) -> "Need":
        """Return what a method needs in a frame.

        Args:
            method: A name of `methods.METHODS`.
            frame: What all methods share.

        Returns:
            The memory; that of the network's hidden states is left out.
        """
        with unfilled():
            made = METHODS[method](frame)
        parameters = sum(parameter.numel() for parameter in made.parameters())
        entries = frame.length * frame.vocabulary_size
        return cls(PROCESS + 20 * parameters, 4 * made.held * entries)

    def of_batch(self, batch_size: int) -> float:
        """Return the memory of an update on so many windows."""
        return self.fixed + batch_size * self.per_window

    def most_windows(self, memory: float) -> int:
        """Return how many windows of a batch fit into a memory, 0 or more."""
        return max(0, int((memory - self.fixed) // self.per_window))


def check_memory(methods: Iterable[str], frame: Frame, batch_size: int, memory: float) -> None:
    """Refuse methods whose updates do not fit into memory.

    Args:
        methods: Names of `methods.METHODS`.
        frame: What they share.
        batch_size: Windows per update.
        memory: Bytes that each process may use.

    Raises:
        ValueError: An update of a method needs more.
    """
    needs = {method: Need.of(method, frame) for method in methods}
    large = {m: n for m, n in needs.items() if n.per_window and n.of_batch(batch_size) > memory}
    if not large:
        return
    most = min(need.most_windows(memory) for need in large.values())
    fits = f"give --batch-size {most} or less" if most else "give a shorter --length"
    size, length = frame.vocabulary_size, frame.length
    them = "it" if len(large) == 1 else "them"
    most_needed = max(need.of_batch(batch_size) for need in large.values())
    raise ValueError(
        f"An update of {', '.join(large)} on {batch_size} windows of {length:,} tokens and a "
        f"vocabulary of {size:,} needs {_gigabytes(most_needed)} "
        f"GB, and there are {_gigabytes(memory)}: {fits}, or leave {them} out of --methods."
    )


def memory_for_each(device: torch.device, jobs: int) -> float:
    """Return the memory that each of several processes may use.

    Args:
        device: Where they compute.
        jobs: Their number.

    Returns:
        An equal share of the memory of the device, in bytes, and no more than the shell allows a
        process; infinite where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / jobs
    machine = [float("inf")]
    with suppress(AttributeError, ValueError, OSError):  # Not every system can say.
        machine.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # "max" where a container has no limit.
        machine.append(float(int(_CGROUP.read_text())))
    return min(min(machine) / jobs, _process_limit())


def texts_at_once(length: int, vocabulary_size: int) -> int:
    """Return how many texts a method draws together.

    Args:
        length: Tokens of each.
        vocabulary_size: Tokens of the vocabulary, V.

    Returns:
        The number, at least 1.
    """
    return max(1, MOST_NUMBERS // (length * vocabulary_size))


def _gigabytes(amount: float) -> str:
    return f"{amount / 1e9:.1f}"


def _process_limit() -> float:
    with suppress(ImportError):  # Windows has no such limits.
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            return float(limit)
    return float("inf")
