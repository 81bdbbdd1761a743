"""A denoiser of short texts made from one of longer texts."""

from dataclasses import dataclass, replace

from torch.nn import functional as F

from stochloc.core.channel import UNKNOWN, State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.reading import Reader, Tokens, read
from stochloc.core.denoisers.stretches import Stretch, within
from stochloc.core.denoisers.two_sided import Between, between


@dataclass(frozen=True)
class Padded:
    """A denoiser of short texts made from one of longer texts: the rest is there, but unknown.

    Exact when the wrapped denoiser is: the marginal distribution of a stretch of the longer text.

    Attributes:
        denoiser: The denoiser of texts with `before + after` more tokens.
        before: Unknown tokens put in front, at least 0.
        after: Unknown tokens put behind, at least 0.
    """

    denoiser: Denoiser
    before: int
    after: int

    def __post_init__(self) -> None:
        if min(self.before, self.after) < 0:
            raise ValueError(
                f"A text is surrounded by at least 0 tokens, not {self.before} and {self.after}."
            )

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    @property
    def between(self) -> Between | None:
        """The wrapped denoiser's answers from two sides of the short text; one call of it."""
        sides = between(self.denoiser)
        if sides is None:
            return None
        return lambda left, right: self._short(sides(self._wide(left), self._wide(right)), left)

    def read(self, state: State) -> Reader | None:
        """Return the wrapped denoiser's reader, which has unknown tokens in front of it."""
        reader = read(self.denoiser, self._wide(state))
        return None if reader is None else _Within(reader, self.before)

    def within(self, state: State, stretch: Stretch) -> Denoiser:
        """Return the short text's denoiser made from what the wrapped one becomes in a stretch."""
        wide = self._wide(state)
        return replace(self, denoiser=within(self.denoiser, wide, stretch.shifted(self.before)))

    def __call__(self, state: State) -> Posterior:
        """Return the posterior of the short text; one call of the wrapped denoiser."""
        return self._short(self.denoiser(self._wide(state)), state)

    def _wide(self, state: State) -> State:
        sides = (self.before, self.after)
        return State(
            z=F.pad(state.z, (0, 0, *sides)),
            known=F.pad(state.known, sides, value=UNKNOWN),
            snr=F.pad(state.snr, sides),
        )

    def _short(self, posterior: Posterior, state: State) -> Posterior:
        return posterior.cropped(self.before, self.before + state.known.shape[-1])


class _Within:
    """A reader that starts after some unknown tokens, of which nobody tells it."""

    def __init__(self, reader: Reader, before: int) -> None:
        self.reader, self.before = reader, before

    def next(self, tokens: Tokens) -> Posterior:
        """Read the unknown tokens in front, the first time, and then those told."""
        before, self.before = self.before, 0
        return self.reader.next(F.pad(tokens, (before, 0), value=UNKNOWN))
