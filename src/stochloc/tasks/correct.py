"""Repairing garbled text: the text as read is evidence, the model says what was meant.

Every character becomes a soft mask (`tasks.garbling`), so nobody has to know where the errors are.
*One pass* asks the denoiser once and takes the most probable token wherever it is another one than
was read and its probability exceeds a threshold. The *full walk* starts from the same state and
decides token by token under the same caution, each in the light of those before; a last call then
takes back every change that is less probable than the threshold given all that was kept.

A model of texts in slots (`stochloc train --slots`) also finds lost and added characters; any other
model keeps the length. Texts longer than the model's window are repaired in windows that overlap
by half, each position in the window in whose middle it is.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import (
    Ancestral,
    Denoiser,
    Masked,
    Path,
    Posterior,
    State,
    Tempered,
    localize,
)
from stochloc.data import SlottedTokenizer
from stochloc.tasks.garbling import Channel, channel_of, rate_at, snr_at, soft_mask
from stochloc.tasks.infill import surrounded
from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.runs import Run

ROWS_PER_CALL = 32
SUREST_FIRST = PolicyChoice("threshold:0.9")


class Decision(NamedTuple):
    """Tokens decided, their probabilities, and how many denoiser calls they took."""

    tokens: Int[Tensor, "batch length"]
    probs: Float[Tensor, "batch length"]
    calls: int


def choose(posterior: Posterior, read: Int[Tensor, "batch length"], threshold: float) -> Decision:
    """Return the most probable tokens where they are probable enough, else what was read.

    Args:
        posterior: What the denoiser believes.
        read: What was read.
        threshold: The probability that a change must exceed.

    Returns:
        The decision, for the price of the call that gave the posterior.
    """
    tokens = torch.where(posterior.confidence > threshold, posterior.mode, read)
    return Decision(tokens, posterior.log_prob(tokens).exp(), 1)


@dataclass(frozen=True)
class OnePass:
    """Repair in a single denoiser call.

    Attributes:
        threshold: A change is made if its probability exceeds this, in `[0, 1]`.
    """

    threshold: float

    def decide(
        self, denoiser: Denoiser, state: State, read: Int[Tensor, "batch length"]
    ) -> Decision:
        """Return the most probable tokens, or what was read where they are too doubtful.

        Args:
            denoiser: Asked once.
            state: The soft mask of what was read.
            read: What was read.

        Returns:
            The decision; with the exact denoiser its probabilities are exact.
        """
        return choose(denoiser(state), read, self.threshold)


@dataclass(frozen=True)
class FullWalk:
    """Repair by a walk, and a last look at what it changed.

    Attributes:
        threshold: A change is made if its probability exceeds this, in `[0, 1]`.
        path: The path to walk, if the policy follows one.
        policy: Hands out SNR; by default it decides all tokens that are at least 90 % sure, and at
            least one, then asks again.
        num_steps: Most steps of the walk, at least 1.
        temperature: Sharpens (below 1) or flattens (above 1) the posteriors of finite steps.
        seed: Seed of the finite steps' noise.
    """

    threshold: float
    path: Path = field(default_factory=Masked)
    policy: PolicyChoice = SUREST_FIRST
    num_steps: int = 32
    temperature: float = 1.0
    seed: int = 0

    def decide(
        self, denoiser: Denoiser, state: State, read: Int[Tensor, "batch length"]
    ) -> Decision:
        """Return what a cautious walk ends with, without the changes that the rest does not bear.

        Args:
            denoiser: Asked once for every step, and once more.
            state: The soft mask of what was read.
            read: What was read.

        Returns:
            The decision; each probability is that of the token given all that was kept.

        Raises:
            ValueError: A setting of the walk is out of range.
        """
        generator = torch.Generator(state.z.device).manual_seed(self.seed)
        policy, walker = self.policy.apply(self.path, Tempered(denoiser, self.temperature))
        transition, end, calls = Cautious(read, self.threshold), state, 1
        for step in localize(walker, state, policy, transition, self.num_steps, generator):
            end, calls = step.state, calls + step.denoiser_calls
        kept = end.known == read
        posterior = denoiser(state.reveal(read, kept))
        probs = posterior.log_prob(end.known).exp()
        tokens = torch.where(probs > self.threshold, end.known, read)
        return Decision(torch.where(kept, read, tokens), probs, calls)


Repair = OnePass | FullWalk


@dataclass(frozen=True)
class Cautious:
    """Ancestral steps, but decisions for what was read unless something else is probable enough.

    Attributes:
        read: What was read.
        threshold: The probability above which the mode is decided for.
    """

    read: Int[Tensor, "batch length"]
    threshold: float

    def step(
        self,
        state: State,
        posterior: Posterior,
        dsnr: Float[Tensor, "batch length"],
        generator: torch.Generator,
    ) -> State:
        """Draw finite steps as `Ancestral` does; decide where `dγ = ∞`. No denoiser call."""
        deciding = dsnr.isinf() & ~state.is_known
        moved = Ancestral().step(state, posterior, dsnr.masked_fill(deciding, 0.0), generator)
        return moved.reveal(choose(posterior, self.read, self.threshold).tokens, deciding)

    def cost(
        self,
        before: State,
        after: State,
        posterior: Posterior,
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length"]:
        """Return `Ancestral`'s cost, and 0 or ∞ for decisions, which are not drawn."""
        moving = Ancestral().cost(before, after, posterior, tokens)
        agrees = tokens == choose(posterior, self.read, self.threshold).tokens
        decided = after.is_known & ~before.is_known
        return torch.where(decided, torch.where(agrees, 0.0, torch.inf), moving)


@dataclass(frozen=True)
class Change:
    """One change of a text.

    Attributes:
        position: Number of the character that was changed, from 0; a lost one is put before it.
        read: What stood there; nothing for a lost character.
        text: What stands there now; nothing for an added character.
        probability: Of the change: in one pass given the text as read, after a walk given also
            that all the rest is right.
    """

    position: int
    read: str
    text: str
    probability: float


@dataclass(frozen=True)
class Correction:
    """A text repaired.

    Attributes:
        text: The text now.
        read: The text as read, in the model's alphabet.
        changes: From left to right.
        snr: SNR of the soft mask of a character without a confidence of its own; ∞ is certain.
        error_rate: The rate of substitutions at which that soft mask is exact.
        threshold: The probability above which a change was made.
        denoiser_calls: Calls of the denoiser, each about several windows of the text.
        seconds: Time it took.
    """

    text: str
    read: str
    changes: tuple[Change, ...]
    snr: float
    error_rate: float
    threshold: float
    denoiser_calls: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an infinite SNR is None, and changes say `from` and `to`."""
        changes = [
            {"position": c.position, "from": c.read, "to": c.text, "probability": c.probability}
            for c in self.changes
        ]
        snr = self.snr if math.isfinite(self.snr) else None
        return {**asdict(self), "changes": changes, "snr": snr}


def correct(
    run: Run,
    text: str,
    repair: Repair,
    snr: float,
    confidences: Sequence[float] | None = None,
) -> Correction:
    """Repair a garbled text.

    Args:
        run: The model and its tokenizer.
        text: The text as read.
        repair: How to decide.
        snr: SNR of the soft mask, g, in `[0, ∞]`: the log-odds of what was read against any other
            symbol; ∞ changes nothing, 0 ignores the text.
        confidences: How probable it is that each character was read rightly, in `[0, 1]`, one for
            each token of the text; 1 is certain, and stays. In place of `snr`.

    Returns:
        The text and its changes. Posterior probabilities are exact for simplex codes, errors at
        the given rate and the exact denoiser; with a network they are as good as the network.

    Raises:
        ValueError: The text is empty or has unknown characters, a setting is out of range, or the
            confidences are not one for each character.
    """
    started_s = time.monotonic()
    if not snr >= 0:
        raise ValueError(f"The SNR of a soft mask must be at least 0, not {snr}.")
    if not 0 <= repair.threshold <= 1:
        raise ValueError(f"The threshold is a probability from 0 to 1, not {repair.threshold}.")
    channel = channel_of(run.tokenizer)
    read = torch.as_tensor(run.tokenizer.encode(text), dtype=torch.long).to(run.device)
    if not len(read):
        raise ValueError("There is no text to correct.")
    levels = torch.full(read.shape, snr, dtype=torch.float64)
    if confidences is not None:
        levels = _levels(run, channel, len(read), confidences)
    tokens, probs, calls = _in_windows(run, channel, read, levels.to(run.device), repair)
    return Correction(
        run.tokenizer.decode(tokens.cpu()),
        run.tokenizer.decode(read.cpu()),
        _changes(run, read.tolist(), tokens.tolist(), probs.tolist()),
        snr,
        float(rate_at(torch.tensor(snr, dtype=torch.float64), channel.num_symbols)),
        repair.threshold,
        calls,
        time.monotonic() - started_s,
    )


def _levels(
    run: Run, channel: Channel, length: int, confidences: Sequence[float]
) -> Float[Tensor, " length"]:
    """Return the SNR of every position; a gap is as doubtful as the more doubtful neighbour."""
    slotted = isinstance(run.tokenizer, SlottedTokenizer)
    num = length // 2 if slotted else length
    if len(confidences) != num:
        raise ValueError(
            f"The text has {num} characters for the model, but {len(confidences)} confidences were "
            "given; give one for each."
        )
    if not all(0 <= confidence <= 1 for confidence in confidences):
        raise ValueError("Confidences are probabilities from 0 to 1.")
    levels = torch.tensor([snr_at(1 - c, channel.num_symbols) for c in confidences]).double()
    if not slotted:
        return levels
    gaps = torch.cat([levels[:1], torch.minimum(levels[1:], levels[:-1]), levels[-1:]])
    pairs = torch.stack([gaps[:-1], levels], dim=-1).flatten()
    return torch.cat([pairs, gaps[-1:]])


def _in_windows(
    run: Run,
    channel: Channel,
    read: Int[Tensor, " length"],
    levels: Float[Tensor, " length"],
    repair: Repair,
) -> Decision:
    """Decide every position in the window in whose middle it is."""
    width = min(run.length, len(read))
    last = len(read) - width
    starts = torch.tensor([*range(0, last, max(1, width // 2)), last])
    places = starts[:, None].to(read.device) + torch.arange(width, device=read.device)
    denoiser = surrounded(run, width)
    with torch.no_grad():
        parts = [
            repair.decide(
                denoiser, soft_mask(run.model.codebook, channel, read[p], levels[p]), read[p]
            )
            for p in places.split(ROWS_PER_CALL)
        ]
    owner = (torch.arange(len(read)) - width // 2 - starts[:, None]).abs().argmin(0)
    column = torch.arange(len(read)) - starts[owner]
    tokens = torch.cat([part.tokens for part in parts])[owner, column]
    probs = torch.cat([part.probs for part in parts])[owner, column]
    return Decision(tokens, probs, sum(part.calls for part in parts))


def _changes(
    run: Run, read: list[int], tokens: list[int], probs: list[float]
) -> tuple[Change, ...]:
    decode = run.tokenizer.decode
    per_character = 2 if isinstance(run.tokenizer, SlottedTokenizer) else 1
    return tuple(
        Change(place // per_character, decode([before]), decode([after]), probability)
        for place, (before, after, probability) in enumerate(zip(read, tokens, probs, strict=True))
        if before != after
    )
