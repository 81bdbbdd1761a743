"""Texts that were drawn, and what it took."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Generation:
    """Texts drawn from a model.

    Attributes:
        samples: The texts.
        denoiser_calls: Denoiser calls per text, the largest number of any batch: one call serves
            all texts of a batch.
        seconds: Time the walks took.
        snr_received: Finite SNR allocated to every token of every text before it was decided.
        lengths: Tokens of every text.
    """

    samples: list[str]
    denoiser_calls: int
    seconds: float
    snr_received: list[list[float]]
    lengths: list[int]

    @classmethod
    def join(cls, parts: Iterable["Generation"]) -> "Generation":
        """Return the texts of several batches together.

        Args:
            parts: The batches in order, at least one.

        Returns:
            All texts; the largest number of calls, and the sum of the times.
        """
        batches = list(parts)
        return cls(
            [text for batch in batches for text in batch.samples],
            max(batch.denoiser_calls for batch in batches),
            sum(batch.seconds for batch in batches),
            [row for batch in batches for row in batch.snr_received],
            [length for batch in batches for length in batch.lengths],
        )

    def to_dict(self, with_snr: bool = False) -> dict[str, Any]:
        """Return the texts and what they took as JSON values.

        Args:
            with_snr: Whether to tell the SNR that every token received; else it is None.
        """
        return {**vars(self), "snr_received": self.snr_received if with_snr else None}

    def in_order(self, order: Sequence[int]) -> "Generation":
        """Return the same texts in another order.

        Args:
            order: The place here of each text there.

        Returns:
            The texts; calls and time are those of all.
        """
        return Generation(
            [self.samples[place] for place in order],
            self.denoiser_calls,
            self.seconds,
            [self.snr_received[place] for place in order],
            [self.lengths[place] for place in order],
        )
