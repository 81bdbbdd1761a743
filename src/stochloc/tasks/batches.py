"""How many texts are in a batch, so that every task fits into memory.

The largest tensors of a call have an entry for every position and every token of the vocabulary, or
of a block of it where it is large, and about ten of them exist at a time; the memory of the network
grows with the positions alone.
Both are bounded here, for all tasks. Results do not depend on the bounds: every text has a random
stream of its own.
"""

from stochloc.core.denoisers.blocked import BLOCK_SIZE

# Tokens of a call: enough to keep a processor busy.
MOST_TOKENS = 16_384
# Tokens of a call times those of a block: 64 MB in float32, some ten times as much in all.
MOST_NUMBERS = 2**24


def rows_at_once(length: int, vocabulary_size: int) -> int:
    """Return the number of texts in a batch.

    Args:
        length: Tokens of each, at least 1.
        vocabulary_size: Tokens of the vocabulary, V.

    Returns:
        The number of rows, at least 1: a single text is never split.
    """
    return max(1, min(MOST_TOKENS, MOST_NUMBERS // min(vocabulary_size, BLOCK_SIZE)) // length)
