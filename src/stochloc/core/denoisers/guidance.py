"""Classifier-free guidance: lean towards what a condition changes.

Of two denoisers, one of which knows a condition y and one of which does not, guidance of strength w
takes, token by token,

    log Q_w(v|z) = log Q(v|z) + w (log Q(v|z, y) - log Q(v|z)) + const.

At `w = 1` this is the conditional denoiser, so the walk draws from P(x|y); above 1 it leans further
towards y, below 1 less far. Only `w = 0` and `w = 1` sample a known distribution; a bound with
any w still holds for the walk that uses it.

A condition can be a label, which a model has been trained with, or simply the tokens of a prompt,
which every model can be made to forget.
"""

import math
from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor

from stochloc.core.channel import UNKNOWN, State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.reading import Reader, Tokens, read
from stochloc.core.denoisers.stretches import Stretch, within
from stochloc.core.denoisers.two_sided import Between, between


@dataclass(frozen=True)
class Guided:
    """Two denoisers as one, guided from the unconditional one towards the conditional one.

    Attributes:
        conditional: Knows the condition.
        unconditional: Does not.
        strength: w, at least 0: 0 ignores the condition, 1 follows it, more exaggerates it.
    """

    conditional: Denoiser
    unconditional: Denoiser
    strength: float

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise ValueError(
                f"The strength of guidance must be at least 0 and finite, not {self.strength}."
            )

    @property
    def codebook(self) -> Codebook:
        """The codes, which both denoisers share."""
        return self.conditional.codebook

    @property
    def between(self) -> Between | None:
        """The guided answers from two sides, if both denoisers have them; one call of each.

        Both posteriors hold the same evidence of a token that neither is kept from seeing, and its
        weight is `(1 - w) + w = 1`: guidance of what is said without it comes to the same.
        """
        towards, away = between(self.conditional), between(self.unconditional)
        if towards is None or away is None:
            return None
        return lambda left, right: towards(left, right).guided(away(left, right), self.strength)

    def read(self, state: State) -> Reader | None:
        """Return a reader whose answers are guided, if both denoisers can read."""
        towards, away = read(self.conditional, state), read(self.unconditional, state)
        if towards is None or away is None:
            return None
        return _Leaning(towards, away, self.strength)

    def within(self, state: State, stretch: Stretch) -> Denoiser:
        """Return the guidance of what both denoisers become in a stretch."""
        conditional = within(self.conditional, state, stretch)
        unconditional = within(self.unconditional, state, stretch)
        return replace(self, conditional=conditional, unconditional=unconditional)

    def __call__(self, state: State) -> Posterior:
        """Return the guided posterior; one call of each denoiser."""
        return self.conditional(state).guided(self.unconditional(state), self.strength)


@dataclass(frozen=True, eq=False)
class Unconditional:
    """A denoiser that does not see some tokens, whatever the state says of them.

    Attributes:
        denoiser: The denoiser that is kept in the dark.
        hidden: The tokens it does not see.
    """

    denoiser: Denoiser
    hidden: Bool[Tensor, "batch length"]

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    @property
    def between(self) -> Between | None:
        """The answers from two sides without the hidden tokens; one call of the wrapped denoiser.

        They are evidence that the denoiser itself leaves out at the hidden places, where its answer
        is not completed by `observed`.
        """
        sides = between(self.denoiser)
        if sides is None:
            return None
        return lambda left, right: sides(left.forget(self.hidden), right.forget(self.hidden))

    def read(self, state: State) -> Reader | None:
        """Return a reader that does not see the hidden tokens; of use where no one decides them.

        None where a hidden token is still to be decided: its answer is not completed by evidence.
        """
        if bool((self.hidden & ~state.is_known).any()):
            return None
        reader = read(self.denoiser, state.forget(self.hidden))
        return None if reader is None else _Blindfolded(reader, self.hidden)

    def within(self, state: State, stretch: Stretch) -> Denoiser:
        """Return the same of what the wrapped denoiser becomes, without the hidden tokens."""
        seen = state.forget(self.hidden)
        return replace(self, denoiser=within(self.denoiser, seen, stretch))

    def __call__(self, state: State) -> Posterior:
        """Return the posterior given the other tokens alone; one call."""
        return self.denoiser(state.forget(self.hidden))


@dataclass(frozen=True, eq=False)
class _Leaning:
    """Two readers as one, guided from one towards the other."""

    towards: Reader
    away: Reader
    strength: float

    def next(self, tokens: Tokens) -> Posterior:
        """Return the guided answer; one call of each reader."""
        return self.towards.next(tokens).guided(self.away.next(tokens), self.strength)


class _Blindfolded:
    """A reader that is not told some tokens."""

    def __init__(self, reader: Reader, hidden: Bool[Tensor, "batch length"]) -> None:
        self.reader, self.hidden, self.place = reader, hidden, 0

    def next(self, tokens: Tokens) -> Posterior:
        """Return the wrapped reader's answer without the hidden tokens."""
        begin, self.place = self.place, self.place + tokens.shape[1]
        return self.reader.next(tokens.masked_fill(self.hidden[:, begin : self.place], UNKNOWN))
