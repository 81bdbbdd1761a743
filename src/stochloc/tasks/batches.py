"""How many texts a model is shown at once, so that no task outgrows the machine.

The largest tensors of a call hold a number for every token and every word of the vocabulary, some
ten of them at a time; what the network needs grows with the tokens alone. Both are bounded here,
for all tasks alike. Results do not depend on it: every text has a random stream of its own.
"""

# Tokens of a call: enough to keep a processor busy.
MOST_TOKENS = 16_384
# Tokens times vocabulary: 64 MB in float32, some ten times as much in all.
MOST_NUMBERS = 2**24


def rows_at_once(length: int, vocabulary_size: int) -> int:
    """Return how many texts make a batch.

    Args:
        length: Tokens of each, at least 1.
        vocabulary_size: Tokens of the vocabulary, V.

    Returns:
        The number of rows, at least 1: a single text is never cut.
    """
    return max(1, min(MOST_TOKENS, MOST_NUMBERS // vocabulary_size) // length)
