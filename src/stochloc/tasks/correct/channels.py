"""Channels that corrupt text, and the evidence of a corrupted text about the original.

Under *substitutions* at rate ρ every symbol s is, with probability ρ, one of the V - 1 others:

    P(s|x) = 1 - ρ  or  ρ / (V - 1),   so   log P(s|x=s) / P(s|x=v) = log((1-ρ)(V-1)/ρ) =: g.

Posteriors weigh texts by `exp(z·x)` (paper A.1), so with simplex codes the soft mask `z = g e_s`
*is* this channel: `P(x|z) = P(x|s)`. The signal-to-noise ratio of a soft mask is a log-odds, and
corresponds to an error rate. Codes with fewer dimensions carry only `g e_s·e_v`.

*Edits* lose and add characters too. On a layout in slots (`data.tokenizers.slotted`) these are
tokens like any other: the likelihood of an empty place is `1/V` whatever was read there, and the
odds of filled gaps and empty places differ from those in training by a known factor. Both are
evidence for the empty token, added to `z`.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core import UNKNOWN, Codebook, State
from stochloc.data import Tokenizer
from stochloc.data.labels import first_given
from stochloc.data.tokenizers.slots import Slots, pour


@runtime_checkable
class Channel(Protocol):
    """A model of corruption, as evidence about the original."""

    @property
    def num_symbols(self) -> int:
        """Number of symbols that can be read, V."""
        ...

    def evidence(
        self, read: Int[Tensor, "*batch length"], snr: Float[Tensor, "*batch length"]
    ) -> Float[Tensor, "*batch length vocabulary"]:
        """Return the evidence for every original token, up to a constant per position."""
        ...


@runtime_checkable
class SimulatedChannel(Channel, Protocol):
    """A channel with one parameter, the share of symbols that are replaced, to corrupt texts."""

    def corrupt(
        self, clean: Int[Tensor, "num length"], rate: float, generator: torch.Generator
    ) -> tuple[Int[Tensor, "num length"], Int[Tensor, "num length"]]:
        """Return the original and the corrupted text, position by position."""
        ...


def snr_at(rate: float, num_symbols: int) -> float:
    """Return the SNR of the soft mask at an error rate, `g = log((1-ρ)(V-1)/ρ)`; exact.

    Args:
        rate: ρ, in `[0, 1]`; at 0 the symbol is known, `g = ∞`; at `1 - 1/V` it carries no
            information.
        num_symbols: V, at least 2.

    Returns:
        g in nats, at least 0: a symbol that is wrong more often than chance is taken as unknown.
    """
    if rate <= 0:
        return math.inf
    return 0.0 if rate >= 1 else max(0.0, math.log((1 - rate) * (num_symbols - 1) / rate))


def rate_at(snr: Float[Tensor, "*shape"], num_symbols: int) -> Float[Tensor, "*shape"]:
    """Return the error rate of a soft mask, `ρ = (V-1) / (V - 1 + e^g)`: the inverse of `snr_at`.

    Args:
        snr: g in nats, in `[0, ∞]`.
        num_symbols: V, at least 2.

    Returns:
        Rates from 0 to `1 - 1/V`.
    """
    return torch.sigmoid(math.log(num_symbols - 1) - snr)


@dataclass(frozen=True)
class Substitutions:
    """Every symbol may be replaced by any other; the length stays the same.

    Attributes:
        num_symbols: V, at least 2.
        num_given: How many tokens that are only ever given come after these; none is ever read.
    """

    num_symbols: int
    num_given: int = 0

    def evidence(
        self, read: Int[Tensor, "*batch length"], snr: Float[Tensor, "*batch length"]
    ) -> Float[Tensor, "*batch length vocabulary"]:
        """Return `g` for the symbol that was read and 0 for all others; exact.

        Args:
            read: The symbols.
            snr: g of each, finite.

        Returns:
            Nats.
        """
        return F.one_hot(read, self.num_symbols + self.num_given) * snr[..., None]

    def corrupt(
        self, clean: Int[Tensor, "num length"], rate: float, generator: torch.Generator
    ) -> tuple[Int[Tensor, "num length"], Int[Tensor, "num length"]]:
        """Replace symbols at random.

        Args:
            clean: Texts.
            rate: ρ, in `[0, 1]`.
            generator: Source of randomness, on the CPU.

        Returns:
            The original texts, and the corrupted ones.
        """
        return clean, _substitute(clean, rate, self.num_symbols, generator)


@dataclass(frozen=True)
class Edits:
    """Symbols may be replaced, lost and added: texts in slots.

    Attributes:
        slots: The slots of the layout; their rate is how often slots changed their role in
            training.
        lost: Characters lost for every one replaced, positive.
        added: Characters added for every one replaced, positive.
    """

    slots: Slots
    lost: float = 0.2
    added: float = 0.2

    @property
    def num_symbols(self) -> int:
        """Number of symbols that can be read, V, without the empty token."""
        return self.slots.empty

    def evidence(
        self, read: Int[Tensor, "*batch length"], snr: Float[Tensor, "*batch length"]
    ) -> Float[Tensor, "*batch length vocabulary"]:
        """Return nats for the symbol that was read and for the empty token; exact.

        Args:
            read: The layout of the text that was read: empty in gaps and nowhere else.
            snr: g of every position, finite; in a gap, that of its surroundings.

        Returns:
            Nats.
        """
        size, empty = self.num_symbols, self.slots.empty
        trained = torch.logit(torch.tensor(self.slots.rate).to(snr))
        # A rate that underflows to 0 would mean certainty, for which evidence is not finite.
        rate = rate_at(snr, size).clamp_min(math.sqrt(torch.finfo(snr.dtype).tiny))
        is_gap = read == empty
        in_gap = trained - torch.logit(rate * self.lost)
        in_place = (
            math.log((size - 1) / size) - rate.log() + torch.logit(rate * self.added) - trained
        )
        nats = F.one_hot(read, size + 1) * snr[..., None]
        nats[..., empty] = torch.where(is_gap, in_gap, in_place)
        return nats

    def corrupt(
        self, clean: Int[Tensor, "num length"], rate: float, generator: torch.Generator
    ) -> tuple[Int[Tensor, "num length"], Int[Tensor, "num length"]]:
        """Replace, lose and add symbols at random.

        Args:
            clean: Layouts of clean texts.
            rate: ρ, in `[0, 1)`; the rates of losses and additions are in proportion to it.
            generator: Source of randomness, on the CPU.

        Returns:
            Layouts of the original and of the corrupted texts.
        """
        size, empty = self.num_symbols, self.slots.empty
        is_gap = clean == empty
        meant = pour(clean, is_gap, self.lost * rate, self.added * rate, empty, generator)
        noise = torch.randint(size, meant.shape, generator=generator)
        symbols = torch.where(meant == empty, noise, meant)
        return meant, _substitute(symbols, rate, size, generator).masked_fill(is_gap, empty)


def channel_of(tokenizer: Tokenizer) -> SimulatedChannel:
    """Return the channel whose errors a model with this tokenizer can correct.

    Args:
        tokenizer: Of the model.

    Returns:
        Edits for texts in slots, substitutions for others.
    """
    if tokenizer.slots is None:
        size = first_given(tokenizer)
        return Substitutions(size, tokenizer.vocabulary_size - size)
    return Edits(tokenizer.slots)


def soft_mask(
    codebook: Codebook,
    channel: Channel,
    read: Int[Tensor, "batch length"],
    snr: Float[Tensor, "batch length"],
) -> State:
    """Return the state of a corrupted text: `z = Σ_v nats_v e_v`, the token where it is certain.

    Its γ is 0: the evidence did not come through the Gaussian channel, so a walk from here still
    passes through all of that channel, and with the exact denoiser it samples `P(x|s)`.

    Args:
        codebook: The token codes; with simplex codes the state is exact.
        channel: How the text was corrupted.
        read: What was read.
        snr: g of every position, in `[0, ∞]`; ∞ where it is certain.

    Returns:
        The start of a walk.
    """
    certain = snr.isinf()
    nats = channel.evidence(read, snr.masked_fill(certain, 1.0)).to(codebook.one)
    z = codebook.mean(nats).masked_fill(certain[..., None], 0.0)
    zero = torch.zeros(read.shape, dtype=z.dtype, device=z.device)
    return State(z, torch.full_like(read, UNKNOWN), zero).reveal(read, certain)


def _substitute(
    symbols: Int[Tensor, "num length"], rate: float, size: int, generator: torch.Generator
) -> Int[Tensor, "num length"]:
    chosen = torch.rand(symbols.shape, generator=generator, dtype=torch.float64) < rate
    shift = torch.randint(1, size, symbols.shape, generator=generator)
    return torch.where(chosen, (symbols + shift) % size, symbols)
