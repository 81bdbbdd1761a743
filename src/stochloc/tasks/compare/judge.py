"""An n-gram judge of samples, and the samples' own entropy.

The judge counts n-grams of held-out text. Its bits per token say how much samples look like text,
and can be fooled by repeating what is common; so the entropy of the tokens within each sample
stands beside it, to be held against that of real text.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from stochloc.core.standard_errors import ratio_stderr
from stochloc.data import BitsPerToken, NgramModel

ORDER = 4


@dataclass(frozen=True)
class JudgeScore:
    """What the judge says of some sequences.

    Attributes:
        judged: Bits per token under the n-gram model.
        entropy: Bits per token of the tokens within a sequence, on average over the sequences.
    """

    judged: BitsPerToken
    entropy: BitsPerToken


@dataclass(frozen=True)
class Judge:
    """An n-gram model of held-out text.

    Attributes:
        model: The counts.
    """

    model: NgramModel

    @classmethod
    def of(cls, held_out: Integer[np.ndarray, " tokens"], vocabulary_size: int) -> "Judge":
        """Return the judge that has read a text.

        Args:
            held_out: Text on which no model was trained.
            vocabulary_size: Number of tokens.

        Returns:
            The judge.
        """
        return cls(NgramModel.fit(held_out, ORDER, vocabulary_size))

    def verdict(self, sequences: Int[Tensor, "batch length"]) -> JudgeScore:
        """Judge sequences.

        Args:
            sequences: Samples, or windows of a text in its order; at least two.

        Returns:
            Both figures with standard errors over blocks of neighbouring sequences.
        """
        judged = self.model.bits_per_token(sequences.cpu().numpy())
        entropies = entropy_bits(sequences, self.model.vocabulary_size)
        spread = float(ratio_stderr(entropies, torch.ones_like(entropies)))
        return JudgeScore(judged, BitsPerToken(float(entropies.mean()), spread))


def entropy_bits(
    tokens: Int[Tensor, "batch length"], vocabulary_size: int
) -> Float[Tensor, " batch"]:
    """Return the entropy of the tokens of each sequence, without regard to their order.

    Args:
        tokens: The sequences.
        vocabulary_size: Number of tokens.

    Returns:
        Bits per token.
    """
    counts = torch.nn.functional.one_hot(tokens, vocabulary_size).sum(1).double()
    return torch.special.entr(counts / counts.sum(-1, keepdim=True)).sum(-1) / math.log(2)
