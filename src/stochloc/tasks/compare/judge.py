"""Sample quality: cross-entropy under an n-gram model, and the entropy of the samples themselves.

The n-gram model, the judge, is fitted to held-out text. Its bits per token measure how much samples
resemble text, but a sample that repeats common n-grams scores well too. The entropy of the tokens
within each sample is therefore reported beside it, for comparison with that of real text.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from stochloc.core.standard_errors import ratio_stderr
from stochloc.data import BitsPerToken, Corpus, NgramModel

ORDER = 4
# An n-gram is packed into an integer of 63 bits.
LARGEST_VOCABULARY = 55_108


@dataclass(frozen=True)
class JudgeScore:
    """The judge's score of some sequences.

    Attributes:
        judged: Cross-entropy under the n-gram model, bits per token.
        entropy: Entropy of the tokens within a sequence, bits per token, averaged over sequences.
    """

    judged: BitsPerToken
    entropy: BitsPerToken


@dataclass(frozen=True)
class Judge:
    """An n-gram model of held-out text.

    Attributes:
        model: The n-gram model.
    """

    model: NgramModel

    @classmethod
    def of(cls, held_out: Integer[np.ndarray, " tokens"], vocabulary_size: int) -> "Judge":
        """Return a judge fitted to a text.

        Args:
            held_out: Text that no compared model was trained on.
            vocabulary_size: Number of tokens.

        Returns:
            The judge.
        """
        return cls(NgramModel.fit(held_out, ORDER, vocabulary_size))

    def score(self, sequences: Int[Tensor, "batch length"]) -> JudgeScore:
        """Return the cross-entropy and the entropy of sequences.

        Args:
            sequences: Samples, or windows of a text in the order of the text; at least two.

        Returns:
            Both with standard errors over blocks of neighbouring sequences.
        """
        judged = self.model.bits_per_token(sequences.cpu().numpy())
        entropies = entropy_bits(sequences, self.model.vocabulary_size)
        spread = float(ratio_stderr(entropies, torch.ones_like(entropies)))
        return JudgeScore(judged, BitsPerToken(float(entropies.mean()), spread))


def make_judge(corpus: Corpus) -> Judge:
    """Return the judge that has read a corpus's test text.

    Args:
        corpus: The text.

    Returns:
        The judge.

    Raises:
        ValueError: There are too many tokens for n-grams of the judge's order.
    """
    size = corpus.tokenizer.vocabulary_size
    if size > LARGEST_VOCABULARY:
        raise ValueError(
            f"The judge of a comparison counts {ORDER}-grams of at most {LARGEST_VOCABULARY:,} "
            f"tokens, and this tokenizer has {size:,}: choose a --tokenizer with fewer."
        )
    return Judge.of(corpus.test, size)


def entropy_bits(
    tokens: Int[Tensor, "batch length"], vocabulary_size: int
) -> Float[Tensor, " batch"]:
    """Return the entropy of the token frequencies within each sequence.

    Args:
        tokens: The sequences.
        vocabulary_size: Number of tokens.

    Returns:
        Bits per token.
    """
    counts = torch.zeros(len(tokens), vocabulary_size, dtype=torch.double, device=tokens.device)
    counts.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=torch.double))
    return torch.special.entr(counts / counts.sum(-1, keepdim=True)).sum(-1) / math.log(2)
