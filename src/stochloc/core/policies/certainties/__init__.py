"""Measures of certainty, one file each; one joins by a line in `CERTAINTIES`.

An order in which tokens are decided is a measure of how certain the posterior is about each of
them. Policies take the measure as a value: `Reveal`, `RevealApart` and `RevealAbove` decide the
most certain tokens first, `Share` gives them more SNR.
"""

from collections.abc import Callable

from stochloc.core.policies.certainties.base import Certainty
from stochloc.core.policies.certainties.confidence import Confidence
from stochloc.core.policies.certainties.low_entropy import LowEntropy

# Name, as in the names of policies: the measure with its defaults.
CERTAINTIES: dict[str, Callable[[], Certainty]] = {
    "confidence": Confidence,
    "entropy": LowEntropy,
}

__all__ = ["CERTAINTIES", "Certainty", "Confidence", "LowEntropy"]
