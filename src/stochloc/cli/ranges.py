"""Ranges of numbers: a flag outside of its range is named, before anything is loaded.

A range stands among the annotations of an option, and tyro passes over it. Only what one flag alone
allows or forbids is checked here; tasks check the rest, and every number again for their callers in
Python.
"""

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Annotated, get_args, get_origin


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`; NaN is in no range.

    Attributes:
        least: The smallest number.
        most: The largest number.
        without_least: Whether `least` itself is outside.
        without_most: Whether `most` itself is outside.
    """

    least: int | float
    most: int | float = math.inf
    without_least: bool = False
    without_most: bool = False

    def holds(self, value: int | float) -> bool:
        """Return whether a number is in the range."""
        is_above = value > self.least if self.without_least else value >= self.least
        return is_above and (value < self.most if self.without_most else value <= self.most)

    def __str__(self) -> str:
        least = f"{'above' if self.without_least else 'at least'} {self.least:g}"
        if self.most == math.inf:
            return least
        if not (self.without_least or self.without_most):
            return f"from {self.least:g} to {self.most:g}"
        return f"{least} and {'below' if self.without_most else 'at most'} {self.most:g}"


def at_least(least: int) -> Range:
    """Return the range of the numbers from one on."""
    return Range(least)


POSITIVE = Range(0, without_least=True)
SHARE = Range(0, 1, without_least=True)
PROBABILITY = Range(0, 1)


def refuse_out_of_range(command: object) -> None:
    """Refuse the first flag whose number is out of its range.

    Args:
        command: The command, as it was parsed.

    Raises:
        ValueError: There is one; the message names the flag and its range.
    """
    for name, value, allowed in _ranges(command):
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not allowed.holds(number):
                flag = f"--{name.replace('_', '-')}"
                shown = f"{number:g}" if isinstance(number, float) else number
                raise ValueError(f"{flag} must be {allowed}, not {shown}.")


def _ranges(options: object) -> Iterator[tuple[str, object, Range]]:
    """Yield the name, the value and the range of every option that has one."""
    for name, kind in inspect.get_annotations(type(options)).items():
        value = getattr(options, name)
        if is_dataclass(value):
            yield from _ranges(value)
        elif get_origin(kind) is Annotated:
            for allowed in get_args(kind)[1:]:
                if isinstance(allowed, Range):
                    yield name, value, allowed
