"""A model as a denoiser of text alone, told what stands around it (`data.frames`)."""

from stochloc.core import Denoiser, Framed
from stochloc.data import Tokenizer
from stochloc.data.frames import frame_of


def framed(model: Denoiser, tokenizer: Tokenizer, label: str | None = None) -> Denoiser:
    """Return a model as a denoiser of text alone.

    Args:
        model: The denoiser of text with its label and boundaries.
        tokenizer: Knows which of these there are.
        label: Name of the text's class; None leaves it open.

    Returns:
        A denoiser of texts of any length; the model itself where nothing stands around them.

    Raises:
        ValueError: There is no such class.
    """
    frame = frame_of(tokenizer, label)
    return Framed(model, frame.before, frame.after) if frame else model
