"""A denoiser's predictions on held-out text: windows of tokens, observed through the channel."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from stochloc.core import UNKNOWN, Denoiser, Posterior, observe
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.counting import characters_in, given_in
from stochloc.tasks.parts import TextPart
from stochloc.tasks.runs import Run
from stochloc.tasks.windows import windows_for

PerToken = Float64[Tensor, "windows length"]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Windows of text.

    Attributes:
        tokens: The windows.
        known: Tokens given rather than scored (labels), `-1` elsewhere.
        characters: Characters of every window.
        denoiser: Who is to be asked about them.
    """

    tokens: Int[Tensor, "windows length"]
    known: Int[Tensor, "windows length"]
    characters: Int[Tensor, " windows"]
    denoiser: Denoiser

    @property
    def num_free(self) -> Int[Tensor, " windows"]:
        """Number of tokens of every window that are scored."""
        return (self.known == UNKNOWN).sum(-1).cpu()


@dataclass(frozen=True, eq=False)
class Prediction:
    """A denoiser's posterior for some windows, each at one γ; values on the CPU, in float64.

    Attributes:
        tokens: The true tokens.
        free: Which of them were noisy; all values below are 0 elsewhere.
        posterior: The denoiser's posterior.
    """

    tokens: Int[Tensor, "windows length"]
    free: Bool[Tensor, "windows length"]
    posterior: Posterior

    @property
    def errors(self) -> PerToken:
        """`‖x - x̂‖²`, dimensionless."""
        codes = self.posterior.codebook.encode(self.tokens)
        return self._of_free((codes - self.posterior.mean).square().sum(-1))

    @property
    def claimed_errors(self) -> PerToken:
        """`1 - ‖x̂‖²`, the error that the posterior expects; dimensionless."""
        return self._of_free(self.posterior.uncertainty)

    @property
    def nats(self) -> PerToken:
        """`-log Q(x|z)`, the cost of deciding at this γ."""
        return self._of_free(-self.posterior.log_prob(self.tokens))

    @property
    def confidence(self) -> PerToken:
        """Probability of the most likely token."""
        return self._of_free(self.posterior.confidence)

    @property
    def is_right(self) -> PerToken:
        """1 where the most likely token is the true one."""
        return self._of_free(self.posterior.mode == self.tokens)

    @property
    def is_free(self) -> PerToken:
        """1 where the token was noisy."""
        return self._of_free(self.free)

    def _of_free(self, values: Tensor) -> PerToken:
        return values.cpu().double().masked_fill(~self.free.cpu(), 0.0)


def windows_of(run: Run, part: TextPart, num_windows: int) -> HeldOut:
    """Return evenly spaced windows of a text, of the length that the run was trained on.

    Args:
        run: The model that will read them.
        part: The text.
        num_windows: How many at most; at least 1.

    Returns:
        The windows, on the model's device.

    Raises:
        ValueError: The text is shorter than a window, or `num_windows` is below 1.
    """
    cut = windows_for(run, part.tokens, num_windows, mixture=part.mixture)
    windows, denoiser = cut.tokens, cut.denoiser
    known = given_in(run.tokenizer, windows)
    known = torch.full_like(windows, UNKNOWN) if known is None else known
    characters = characters_in(run.tokenizer, windows)
    return HeldOut(windows.to(run.device), known.to(run.device), characters, denoiser)


def predictions(
    denoiser: Denoiser,
    text: HeldOut,
    snr: Float[Tensor, " windows"],
    generator: torch.Generator,
) -> Iterator[Prediction]:
    """Evaluate a denoiser on the windows, each at one γ for all its tokens.

    Args:
        denoiser: Gives the posterior.
        text: The windows.
        snr: γ of every window, in `[0, ∞)`.
        generator: Source of the noise.

    Yields:
        Batches of windows in order; one denoiser call per window.
    """
    size = rows_at_once(text.tokens.shape[1], denoiser.codebook.vocabulary_size)
    for tokens, known, gamma in zip(
        text.tokens.split(size), text.known.split(size), snr.split(size), strict=True
    ):
        free = known == UNKNOWN
        shared = gamma[:, None].to(denoiser.codebook.one).expand(tokens.shape)
        shared = shared.masked_fill(~free, torch.inf)
        with torch.no_grad():
            posterior = denoiser(observe(denoiser.codebook, tokens, shared, generator))
        yield Prediction(tokens, free, posterior)
