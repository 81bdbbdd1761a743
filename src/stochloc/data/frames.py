"""The tokens that stand around a text as a model sees it: its class, its beginning and its end.

    [label?] [boundary?] x_1 ... x_n [boundary?]

They are given with a text rather than part of it, so tasks work on x alone and the model is told
the rest.
"""

from dataclasses import dataclass

from stochloc.data.labels import label_token
from stochloc.data.tokenizers.protocol import Tokenizer

# The label of a text whose class is left open: it is there, but unknown.
OPEN = -1


@dataclass(frozen=True)
class Frame:
    """The tokens around a text.

    Attributes:
        before: those in front of it; `-1` for an unknown one.
        after: those behind it.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def frame_of(tokenizer: Tokenizer, label: str | None = None) -> Frame:
    """Return the tokens around a text.

    Args:
        tokenizer: knows the labels and the boundary, if there are any.
        label: the name of the text's class; None leaves the class open.

    Returns:
        The frame; empty for a tokenizer with neither labels nor boundary.

    Raises:
        ValueError: there is no such class.
    """
    ends = () if tokenizer.boundary is None else (tokenizer.boundary,)
    if label is not None:
        return Frame((label_token(tokenizer, label), *ends), ends)
    return Frame((OPEN, *ends) if tokenizer.labels else ends, ends)
