"""Which records of a file a process works on: every n-th, so that all shares take equally long."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_WRITTEN = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True)
class Share:
    """The records whose number, counted from 0, leaves a given remainder.

    Attributes:
        index: The remainder, in `[0, count)`.
        count: How many shares make the whole, at least 1.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Return the share that a user wrote.

        Args:
            text: `3/8` for the third of eight: the records 3, 11, 19, ..., counted from 1.

        Returns:
            The share.

        Raises:
            ValueError: It is none.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"A share is written 1/8, 2/8, ... or 8/8 of eight, not {text!r}.")
        return cls(int(found[1]) - 1, int(found[2]))

    def takes(self, number: int) -> bool:
        """Return whether a record belongs to the share.

        Args:
            number: Its number, counted from 1.
        """
        return (number - 1) % self.count == self.index

    def number(self, place: int) -> int:
        """Return the number, counted from 1, of a record of the share.

        Args:
            place: Its place within the share, counted from 0.
        """
        return self.index + place * self.count + 1

    def split(self, num_parts: int) -> Iterator["Share"]:
        """Yield the shares of this share.

        Args:
            num_parts: How many, at least 1.

        Yields:
            Shares whose records, taken in turn, are those of this one in their order.
        """
        for part in range(num_parts):
            yield Share(self.index + part * self.count, self.count * num_parts)

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


@dataclass(frozen=True)
class Processes:
    """Which of several processes that `torchrun` started this is.

    Attributes:
        rank: Its number, in `[0, count)`.
        count: How many there are; 1 without `torchrun`.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Processes":
        """Return what `torchrun` says in the environment.

        Args:
            environment: Variables of this process.

        Returns:
            The process; the only one where nothing is said.
        """
        return cls(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))
