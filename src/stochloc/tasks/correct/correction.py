"""A corrected text and its changes."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One change of a text.

    Attributes:
        position: Index of the changed character in the input, from 0; a lost character is inserted
            before it.
        read: The character there; empty for a lost character.
        text: Its replacement; empty for an added character.
        probability: Probability of the change given the text as read; after a walk, given also that
            all other positions are right.
    """

    position: int
    read: str
    text: str
    probability: float


@dataclass(frozen=True)
class Correction:
    """A corrected text.

    Attributes:
        text: The corrected text.
        read: The text as read, in the model's alphabet except for characters unknown to it.
        changes: From left to right; a character that the model does not know is always changed.
        snr: SNR of the soft mask of characters without a confidence of their own; ∞ is certain.
        error_rate: The rate of substitutions at which that soft mask is exact.
        threshold: The probability above which a change was made.
        denoiser_calls: Calls of the denoiser, each about several windows of the text.
        seconds: Time it took.
        content: The corrected text as it is written to a file; that of a byte model need not be
            UTF-8.
        notes: How the input was normalised, for instance its line breaks.
    """

    text: str
    read: str
    changes: tuple[Change, ...]
    snr: float
    error_rate: float
    threshold: float
    denoiser_calls: int
    seconds: float
    content: bytes
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an infinite SNR is None, and changes say `from` and `to`."""
        changes = [
            {"position": c.position, "from": c.read, "to": c.text, "probability": c.probability}
            for c in self.changes
        ]
        snr = self.snr if math.isfinite(self.snr) else None
        values = {**asdict(self), "changes": changes, "snr": snr, "notes": list(self.notes)}
        del values["content"]
        return values
