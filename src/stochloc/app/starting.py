"""The tokens that a walk begins with: a prompt, or a text with blanks."""

import re

import torch
from jaxtyping import Int
from torch import Tensor

from stochloc.app.shelf import Served
from stochloc.core import UNKNOWN
from stochloc.tasks.generate import prompt_tokens
from stochloc.tasks.generate_sequences import draw_length, that_hold
from stochloc.tasks.infill.templates import Template

_BLANK = re.compile(r"_|\{\d")


def starting_tokens(
    served: Served, prompt: str, length: int | None, seed: int, label: str | None = None
) -> tuple[Int[Tensor, "1 length"], bool]:
    """Return the tokens that are known at the start of a walk.

    Args:
        served: The model.
        prompt: What the text begins with; with blanks, `_` or `{3}`, what it is: then free places
            follow only if `length` asks for more.
        length: Tokens of the text; as many as in training where absent, of a model of sequences
            drawn as a sample's is.
        seed: Seed of the draw.
        label: Class of the text, whose sequences have lengths of their own; None leaves it open.

    Returns:
        Known tokens, `-1` elsewhere, and whether they are a text with blanks, to be shown to the
        model as infilling shows it.

    Raises:
        ValueError: The prompt is malformed or unknown to the model, or does not fit.
    """
    if _BLANK.search(prompt):
        known = _laid_out(served, prompt)
        if length is not None and length < known.shape[1]:
            raise ValueError(
                f"The text has {known.shape[1]} tokens, more than the length {length}."
            )
        free = known.new_full((1, 0 if length is None else length - known.shape[1]), UNKNOWN)
        given = torch.cat([known, free], -1)
    else:
        wanted = _length(served, prompt, seed, label) if length is None else length
        given = prompt_tokens(served.run.tokenizer, prompt, 1, wanted)
    if given.shape[1] > served.longest:
        raise ValueError(
            f"The text has {given.shape[1]} tokens, and {served.name} takes at most "
            f"{served.longest}; shorten it."
        )
    return given, bool(_BLANK.search(prompt))


def _laid_out(served: Served, prompt: str) -> Int[Tensor, "1 length"]:
    layouts = Template.parse(prompt, served.run.tokenizer).layouts()
    if len(layouts) != 1:
        raise ValueError(
            "A walk needs blanks of a certain length, such as ____ or {4}; Fill takes ranges."
        )
    return layouts[0].known[None]


def _length(served: Served, prompt: str, seed: int, label: str | None) -> int:
    lengths = served.run.lengths_given(label)
    if lengths is None:
        return min(served.run.text_length, served.longest)
    possible = that_hold(prompt, lengths.within(1, served.longest), served.run)
    return draw_length(possible, seed, 0)
