"""A denoiser's predictions on held-out text, observed through the channel.

The text is windows of one long text, or whole sequences. Rows of equal length are asked about
together, so that none is padded; labels and boundaries are given and never counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64, Int, Real
from torch import Tensor

from stochloc.core import UNKNOWN, Denoiser, Posterior, observe
from stochloc.data import Tokenizer
from stochloc.data.sequences import Rows
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.counting import characters_in, given_in
from stochloc.tasks.parts import Part, TextPart
from stochloc.tasks.runs import Run
from stochloc.tasks.windows import sequences_for, windows_for

PerToken = Float64[Tensor, "windows length"]


@dataclass(frozen=True, eq=False)
class Group:
    """Windows of text, or sequences, of equal length.

    Attributes:
        numbers: The number of every row among all.
        tokens: The rows.
        known: Tokens given rather than scored (labels, boundaries), `-1` elsewhere.
    """

    numbers: Int[Tensor, " windows"]
    tokens: Int[Tensor, "windows length"]
    known: Int[Tensor, "windows length"]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Windows of text, or sequences.

    Attributes:
        groups: Those of equal length together, the shortest first.
        characters: Characters of every window or sequence.
        denoiser: Who is to be asked about them.
        called: What they are: "windows of text" or "sequences".
    """

    groups: tuple[Group, ...]
    characters: Int[Tensor, " windows"]
    denoiser: Denoiser
    called: str = "windows of text"

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def described(self) -> str:
        """How many of what: "64 windows of text"."""
        return f"{len(self)} {self.called}"

    @cached_property
    def num_free(self) -> Int[Tensor, " windows"]:
        """Number of tokens of every window or sequence that are scored."""
        return self.in_order([(group.known == UNKNOWN).sum(-1).cpu() for group in self.groups])

    def in_order(self, values: list[Tensor]) -> Tensor:
        """Return the values of all groups, a row each, in the order of the text."""
        return _in_order(values, self.groups)


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


def held_out_of(run: Run, part: Part, num: int) -> HeldOut:
    """Return evenly spaced windows of a text, as long as those of training, or sequences.

    Args:
        run: The model that will read them.
        part: The text, or the sequences if the model is one of those.
        num: How many windows or sequences at most; at least 1.

    Returns:
        The windows or sequences, on the model's device.

    Raises:
        ValueError: The text is shorter than a window, there are no sequences, or `num` is below 1.
    """
    if isinstance(part, TextPart):
        cut = windows_for(run, part.tokens, num, mixture=part.mixture)
        every = [Rows(torch.arange(len(cut.tokens)), cut.tokens)]
        return _held_out(run, every, cut.denoiser, HeldOut.called)
    asked = sequences_for(run, part.sequences)
    every = list(asked.sequences.spaced(num).by_length())
    if not every:
        raise ValueError(f"There are no sequences in {part.described} to draw a figure of.")
    return _held_out(run, every, asked.denoiser, "sequences")


@torch.no_grad()
def measured(
    denoiser: Denoiser,
    text: HeldOut,
    snr: Float[Tensor, " windows"],
    generator: torch.Generator,
    values: Callable[["Prediction"], Real[Tensor, "windows *values"]],
) -> Real[Tensor, "windows *values"]:
    """Measure a denoiser's predictions on the windows or sequences, each at one γ for all tokens.

    Args:
        denoiser: Gives the posterior.
        text: The windows or sequences.
        snr: γ of every one, in `[0, ∞)`.
        generator: Source of the noise.
        values: Gives what is measured of a batch of predictions, a row for each.

    Returns:
        The values, in the order of the text; one denoiser call per window or sequence.
    """
    return text.in_order(
        [
            torch.cat([values(p) for p in _predictions(denoiser, group, snr, generator)])
            for group in text.groups
        ]
    )


def _predictions(
    denoiser: Denoiser,
    group: Group,
    snr: Float[Tensor, " all"],
    generator: torch.Generator,
) -> Iterator[Prediction]:
    """Yield the predictions for rows of equal length, in batches."""
    size = rows_at_once(group.tokens.shape[1], denoiser.codebook.vocabulary_size)
    own = snr[group.numbers]
    for tokens, known, gamma in zip(
        group.tokens.split(size), group.known.split(size), own.split(size), strict=True
    ):
        free = known == UNKNOWN
        shared = gamma[:, None].to(denoiser.codebook.one).expand(tokens.shape)
        shared = shared.masked_fill(~free, torch.inf)
        posterior = denoiser(observe(denoiser.codebook, tokens, shared, generator))
        yield Prediction(tokens, free, posterior)


def _held_out(run: Run, every: list[Rows], denoiser: Denoiser, called: str) -> HeldOut:
    groups = tuple(_group(run.tokenizer, rows, run.device) for rows in every)
    characters = [characters_in(run.tokenizer, rows.tokens) for rows in every]
    return HeldOut(groups, _in_order(characters, groups), denoiser, called)


def _in_order(values: list[Tensor], groups: tuple[Group, ...]) -> Tensor:
    return torch.cat(values)[torch.cat([group.numbers for group in groups]).argsort()]


def _group(tokenizer: Tokenizer, rows: Rows, device: torch.device) -> Group:
    known = given_in(tokenizer, rows.tokens)
    known = torch.full_like(rows.tokens, UNKNOWN) if known is None else known
    return Group(rows.numbers, rows.tokens.to(device), known.to(device))
