"""A denoiser of texts that stand between given tokens: their class, their beginning and end.

A model of `P(y, x)` that is told y is a model of `P(x|y)`. Where y stands before and after a text,
whatever the text and however long it is, the rest of the library need not know of it: a walk, a
bound or a search goes over the places of x alone, and the model sees y around them.
"""

from dataclasses import dataclass, replace

from stochloc.core.channel import UNKNOWN, State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.padded import Padded
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.reading import Reader, read
from stochloc.core.denoisers.stretches import Stretch, within
from stochloc.core.denoisers.two_sided import Between, between


@dataclass(frozen=True)
class Framed:
    """A denoiser of the text between given tokens, made from one of text and tokens together.

    Exact when the wrapped denoiser is: the distribution of the text given the tokens around it.

    Attributes:
        denoiser: The denoiser of `before`, a text and `after` together.
        before: The tokens in front of the text, each in `[0, V)`, or `-1` for one that is there but
            unknown.
        after: The tokens behind it.
    """

    denoiser: Denoiser
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        size = self.codebook.vocabulary_size
        for token in (*self.before, *self.after):
            if not UNKNOWN <= token < size:
                raise ValueError(
                    f"A text is framed by tokens from 0 to {size - 1}, or -1 where one is unknown, "
                    f"not by {token}."
                )

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    @property
    def between(self) -> Between | None:
        """The wrapped denoiser's answers from two sides of the text; one call of it."""
        return between(self._padded)

    def read(self, state: State) -> Reader | None:
        """Return the wrapped denoiser's reader, which begins with the tokens in front."""
        return read(self._padded, state)

    def within(self, state: State, stretch: Stretch) -> Denoiser:
        """Return the text's denoiser made from what the wrapped one becomes in a stretch."""
        return within(self._padded, state, stretch)

    def __call__(self, state: State) -> Posterior:
        """Return the posterior of the text given its frame; one call of the wrapped denoiser."""
        return self._padded(state)

    @property
    def _padded(self) -> Padded:
        told = _Told(self.denoiser, self.before, self.after)
        return Padded(told, len(self.before), len(self.after))


@dataclass(frozen=True)
class _Told:
    """A denoiser that knows the first and the last tokens of every state it is shown."""

    denoiser: Denoiser
    first: tuple[int, ...]
    last: tuple[int, ...]

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    @property
    def between(self) -> Between | None:
        """The wrapped denoiser's answers from two sides, both told the tokens; one call of it."""
        sides = between(self.denoiser)
        if sides is None:
            return None
        return lambda left, right: sides(self._told(left), self._told(right))

    def read(self, state: State) -> Reader | None:
        """Return the wrapped denoiser's reader of the state in which the tokens are known."""
        return read(self.denoiser, self._told(state))

    def within(self, state: State, stretch: Stretch) -> Denoiser:
        """Return the same of what the wrapped denoiser becomes in a stretch, told the tokens."""
        return replace(self, denoiser=within(self.denoiser, self._told(state), stretch))

    def __call__(self, state: State) -> Posterior:
        """Return the posterior given the tokens; one call of the wrapped denoiser."""
        return self.denoiser(self._told(state))

    def _told(self, state: State) -> State:
        spare = state.known.shape[-1] - len(self.first) - len(self.last)
        row = state.known.new_tensor([*self.first, *[UNKNOWN] * spare, *self.last])
        return state.reveal(row.expand_as(state.known), (row != UNKNOWN).expand_as(state.known))
