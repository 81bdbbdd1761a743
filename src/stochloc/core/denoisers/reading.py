"""Denoisers that read a text from left to right, and remember what they have read.

A walk that decides one token after another from left to right asks, of one place at a time, for

    Q(x_i | x_<i, z_>i)      (times the token's own evidence, which is exact: paper A.1).

A denoiser asked in the ordinary way answers about all places, from a state most of which it was
shown in the call before. On this walk the right side of a place never changes until its turn has
come, and the left side only grows. A `Reader` is given the state once. After that it is told the
tokens as they are decided and answers about the place behind them, so that a network can keep what
it has made of both sides: a step costs one place.

The answers are those of `between`, up to rounding, and so is the walk (`core.memory`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Denoiser, Posterior

Tokens = Int[Tensor, "batch more"]


@runtime_checkable
class Reader(Protocol):
    """What a denoiser has made of a state, and of the tokens that it has been told since."""

    def next(self, tokens: Tokens) -> Posterior:
        """Read the tokens that come next, and say what both sides of the place behind them know.

        Args:
            tokens: The tokens from the place after those read before; `-1` where a token is still
                as the state has it. None at all is right for the first place only.

        Returns:
            `Q(x_i | read_<i, state_>i)` for the place i after all tokens read, `(B, 1)`, without
            the evidence of its own: one denoiser call, about one place.
        """
        ...


@runtime_checkable
class Readable(Denoiser, Protocol):
    """A denoiser that may be able to read from left to right."""

    def read(self, state: State) -> Reader | None:
        """Return a reader that begins at the left end of a state, once for one walk.

        None if it cannot: for a denoiser made from another one, if that one cannot.
        """
        ...


def read(denoiser: Denoiser, state: State) -> Reader | None:
    """Return how a denoiser reads a state from left to right.

    Args:
        denoiser: Any denoiser.
        state: What is known of the text before anything is decided.

    Returns:
        The reader, at the left end; None if the denoiser has none.
    """
    return denoiser.read(state) if isinstance(denoiser, Readable) else None


@dataclass(frozen=True, eq=False)
class Changed:
    """A reader whose answers are changed on their way out.

    Attributes:
        reader: Gives the answers.
        change: What becomes of each.
    """

    reader: Reader
    change: Callable[[Posterior], Posterior]

    def next(self, tokens: Tokens) -> Posterior:
        """Return the changed answer of the wrapped reader; one call of it."""
        return self.change(self.reader.next(tokens))


def changed(reader: Reader | None, change: Callable[[Posterior], Posterior]) -> Changed | None:
    """Return a reader whose answers are changed on their way out.

    Args:
        reader: Gives the answers, if there is one.
        change: What becomes of each, whichever place it is about.

    Returns:
        The reader; None without one.
    """
    return None if reader is None else Changed(reader, change)
