"""A text cut into pieces that can be encoded one by one.

The pieces are a function of the text alone, however it arrives: each ends at the first place, at
least so many characters after its beginning, where white space follows something else, which is
where no rule for words joins two tokens; without such a place it ends after so many at most.
"""

import re
from collections.abc import Iterable, Iterator

SHORTEST, LONGEST = 1 << 12, 1 << 16

_SPACE_AFTER_WORD = re.compile(r"(?<=\S)(?=\s)")


def pieces(texts: Iterable[str], shortest: int = SHORTEST, longest: int = LONGEST) -> Iterator[str]:
    """Yield the pieces of a text.

    Args:
        texts: the text, cut anywhere.
        shortest: characters of a piece at least, but for the last; at least 1.
        longest: characters of a piece at most; not less than `shortest`.

    Yields:
        Pieces; joined, the text.
    """
    held = ""
    for text in texts:
        held += text
        begin = 0
        while end := _end(held, begin, shortest, longest):
            yield held[begin:end]
            begin = end
        held = held[begin:]
    if held:
        yield held


def _end(text: str, begin: int, shortest: int, longest: int) -> int:
    """Return where the piece that begins there ends, or 0 if the text says too little about it."""
    found = _SPACE_AFTER_WORD.search(text, begin + shortest, begin + longest + 1)
    if found is not None:
        return found.start()
    return begin + longest if len(text) > begin + longest else 0
