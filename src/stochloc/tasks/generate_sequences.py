"""Drawing whole sequences: first a length, then the tokens given that length.

    n ~ P(n),      x_1 ... x_n ~ P(x | n),

each given the class if one is told, the second by a free walk between two boundaries that are
known. A condition on the length restricts the first distribution and leaves the second as it is.
Texts of equal length share a batch; both the length and the tokens of a text are drawn from streams
of its own.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

import torch

from stochloc.data.lengths import Lengths
from stochloc.data.normalisation import normalise
from stochloc.tasks.generate import Trace, batches_of, check_request, draw_batch
from stochloc.tasks.generation import Generation
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import Walk
from stochloc.training.seeds import seeded_generator

# Texts whose lengths are drawn at once, so that those of equal length meet in a batch.
TEXTS_AT_ONCE = 4096


def generate_sequences(
    run: Run,
    num: int,
    lengths: Lengths,
    walk_for: Callable[[int], Walk],
    prompt: str = "",
    seed: int = 0,
    trace: Trace | None = None,
    label: str | None = None,
) -> Iterator[Generation]:
    """Draw whole sequences; the same seed gives the same ones, however many are drawn.

    Args:
        run: The model and its tokenizer, which has a boundary.
        num: Number of sequences, at least 1.
        lengths: The distribution of their lengths: the run's own in their class, or that within a
            range.
        walk_for: How to walk, for sequences of so many tokens.
        prompt: Text that every sequence begins with. Lengths are drawn from those that can hold it,
            and otherwise as if it were not known.
        seed: Seed of all randomness.
        trace: Called after every step; see `generate_batches`.
        label: Class of the sequences; None leaves it open.

    Yields:
        The sequences in the order of their numbers, some thousands at a time. Takes the denoiser
        calls of a walk for every batch, of which there is at least one for every length.

    Raises:
        ValueError: A number is not positive or far too large, the prompt does not fit, there is no
            such class, or guidance has neither prompt nor label.
    """
    check_request(num, lengths.longest, seed)
    possible = that_hold(prompt, lengths, run)
    for begin in range(0, num, TEXTS_AT_ONCE):
        texts = range(begin, min(begin + TEXTS_AT_ONCE, num))
        of_length: dict[int, list[int]] = defaultdict(list)
        for text in texts:
            of_length[draw_length(possible, seed, text)].append(text)
        drawn, parts = list[int](), list[Generation]()
        for length, same in sorted(of_length.items()):
            walk = walk_for(length)
            for some in batches_of(same, length, run):
                drawn += some
                parts.append(draw_batch(run, some, length, walk, prompt, seed, trace, label))
        place = {text: n for n, text in enumerate(drawn)}
        yield Generation.join(parts).in_order([place[text] for text in texts])


def that_hold(prompt: str, lengths: Lengths, run: Run) -> Lengths:
    """Return the distribution of the lengths that can hold a prompt.

    Args:
        prompt: Text that a sequence begins with.
        lengths: The distribution without it.
        run: The model and its tokenizer.

    Returns:
        The distribution within them.

    Raises:
        ValueError: The prompt is unknown to the model, or too long for every length.
    """
    told = len(run.tokenizer.encode(normalise(prompt, run.tokenizer).known_only()))
    if told > lengths.longest:
        raise ValueError(
            f"The prompt has {told} tokens, more than the {lengths.longest} of the longest "
            "sequence there can be; shorten it."
        )
    return lengths.within(max(1, told), lengths.longest)


def draw_length(lengths: Lengths, seed: int, text: int) -> int:
    """Return the length of a sequence, which its number and the seed determine.

    Args:
        lengths: The distribution.
        seed: Seed of all randomness.
        text: The number of the sequence.

    Returns:
        Tokens of its text.
    """
    # The walk of a text has the stream named by the number alone.
    return int(lengths.sample(1, seeded_generator(torch.device("cpu"), seed, text, 0)))


def parse_lengths(length: str) -> tuple[int, int]:
    """Return the least and the greatest length of `8` or `5-12`.

    Args:
        length: What a user gave.

    Returns:
        The range, at least 1 each.

    Raises:
        ValueError: It is neither a number nor a range.
    """
    shortest, dash, longest = length.partition("-")
    try:
        first = int(shortest)
        last = int(longest) if dash else first
    except ValueError:
        raise _no_length(length) from None
    if not 1 <= first <= last:
        raise _no_length(length)
    return first, last


def _no_length(length: str) -> ValueError:
    return ValueError(
        f"A length is a positive number of tokens, or a range such as 5-12, not {length!r}."
    )
