"""A Markov model of short texts, to put beside what a network has learned.

The probability of a character given the few before it, from counts smoothed after Witten and Bell
as in `stochloc.data.ngrams`, but of texts that each begin anew: before the first character stands
`START`, which is never predicted. A text that ends with a character of its own, such as `END`,
gives the model its lengths too.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

START, END = "\x02", "\n"


@dataclass(frozen=True, eq=False)
class Markov:
    """The distribution of a character given the `order` before it; made by `fit`.

    Attributes:
        order: Characters of context.
        alphabet: What can come next.
        counts: How often each character followed each context, the empty one included.
    """

    order: int
    alphabet: str
    counts: Mapping[str, Counter[str]]
    _known: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def fit(cls, texts: Iterable[str], order: int) -> "Markov":
        """Return the model of some texts.

        Args:
            texts: At least one character in all.
            order: Characters of context, 0 or more.

        Returns:
            The model.

        Raises:
            ValueError: There are no characters, or the order is negative.
        """
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            begun = START * order + text
            for place in range(order, len(begun)):
                for used in range(order + 1):
                    counts[begun[place - used : place]][begun[place]] += 1
        if order < 0 or not counts:
            raise ValueError("A Markov model needs texts, and an order of at least 0.")
        return cls(order, "".join(sorted(counts[""])), dict(counts))

    def probabilities(self, context: str) -> NDArray[np.float64]:
        """Return the probability of every character of the alphabet after a context.

        Args:
            context: At most `order` characters.

        Returns:
            Numbers that sum to 1, shape (alphabet,).
        """
        if context not in self._known:
            size = len(self.alphabet)
            shorter = self.probabilities(context[1:]) if context else np.full(size, 1 / size)
            after = self.counts.get(context)
            self._known[context] = shorter if after is None else self._mixed(after, shorter)
        return self._known[context]

    def bits(self, text: str) -> float:
        """Return `-log2 P` of the characters of a text.

        Args:
            text: Characters of the alphabet.

        Returns:
            Bits.
        """
        begun = START * self.order + text
        contexts = (begun[place : place + self.order] for place in range(len(text)))
        places = map(self.alphabet.index, text)
        pairs = zip(contexts, places, strict=True)
        return -sum(math.log2(self.probabilities(context)[place]) for context, place in pairs)

    def sample(self, length: int, generator: np.random.Generator) -> str:
        """Draw a text, up to its `END` if there is one in the alphabet.

        Args:
            length: Most characters.
            generator: The source of randomness.

        Returns:
            The text, without an `END`.
        """
        text = START * self.order
        while len(text) < self.order + length and not text.endswith(END):
            given = self.probabilities(text[len(text) - self.order :])
            text += self.alphabet[generator.choice(len(self.alphabet), p=given)]
        return text[self.order :].removesuffix(END)

    def _mixed(self, after: Counter[str], shorter: NDArray[np.float64]) -> NDArray[np.float64]:
        seen = np.array([after[character] for character in self.alphabet], dtype=np.float64)
        return (seen + len(after) * shorter) / (seen.sum() + len(after))


def mean(values: NDArray[np.float64]) -> str:
    """Return a mean and its standard error as text.

    Args:
        values: Two or more independent numbers.

    Returns:
        Such as "1.234 ± 0.012".
    """
    return f"{values.mean():.4g} ± {values.std(ddof=1) / math.sqrt(len(values)):.2g}"
