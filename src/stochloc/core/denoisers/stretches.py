"""Denoisers that keep what they have made of the given tokens around the blanks of a text.

A walk moves the tokens that were free when it began. What stands before the first of them and
behind the last never changes, and nothing is asked about it. A denoiser that is told so once can
keep what it has made of it, so that each step costs the stretch from the first blank to the last,

    given given given | blank given blank | given given          (the middle: one stretch),

however long the text around it is. Its answers there are the denoiser's own, up to rounding, for
every path and policy, and so is the walk.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Denoiser


@dataclass(frozen=True)
class Stretch:
    """Neighbouring places of a text.

    Attributes:
        begin: The first place, at least 0.
        end: The first place after the last, above `begin`.
    """

    begin: int
    end: int

    def shifted(self, places: int) -> "Stretch":
        """Return the stretch of a longer text, with so many more places in front."""
        return Stretch(self.begin + places, self.end + places)


@runtime_checkable
class Stretchable(Denoiser, Protocol):
    """A denoiser that may be able to keep what it has made of the rest of a text."""

    def within(self, state: State, stretch: Stretch) -> Denoiser:
        """Return a denoiser of states that are this one outside of the stretch.

        Its answers in the stretch are the same, up to rounding, from two sides too. Elsewhere they
        are certain of tokens that are known, and have no meaning otherwise. Itself if it has
        nothing to keep.
        """
        ...


def within(denoiser: Denoiser, state: State, stretch: Stretch) -> Denoiser:
    """Return what a denoiser becomes for states that are given outside of a stretch.

    Args:
        denoiser: Any denoiser.
        state: What is given outside of the stretch.
        stretch: The places that may change.

    Returns:
        A denoiser with the same answers in the stretch, up to rounding; the given one if it can
        keep nothing. Making it costs at most the work of one call.
    """
    return denoiser.within(state, stretch) if isinstance(denoiser, Stretchable) else denoiser


def while_open(denoiser: Denoiser, state: State) -> Denoiser:
    """Return what a denoiser becomes for a walk that begins at a state.

    Args:
        denoiser: Any denoiser.
        state: Where the walk begins; it moves the tokens that are not known there.

    Returns:
        A denoiser with the same answers about those tokens, up to rounding.
    """
    places = (~state.is_known).any(0).nonzero().flatten().tolist()
    if not places:
        return denoiser
    return within(denoiser, state, Stretch(places[0], places[-1] + 1))
