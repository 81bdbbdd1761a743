"""A denoiser of short texts made from one of longer texts."""

from dataclasses import dataclass

from torch.nn import functional as F

from stochloc.core.channel import UNKNOWN, State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior


@dataclass(frozen=True)
class Padded:
    """A denoiser of short texts made from one of longer texts: the rest is there, but unknown.

    Exact when the wrapped denoiser is: the marginal law of a stretch of the longer text.

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

    def __call__(self, state: State) -> Posterior:
        """Return the posterior of the short text; one call of the wrapped denoiser."""
        sides = (self.before, self.after)
        wide = State(
            z=F.pad(state.z, (0, 0, *sides)),
            known=F.pad(state.known, sides, value=UNKNOWN),
            snr=F.pad(state.snr, sides),
        )
        length = state.known.shape[-1]
        return self.denoiser(wide).cropped(self.before, self.before + length)
