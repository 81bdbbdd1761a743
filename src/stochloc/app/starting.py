"""The tokens that a walk begins with: a prompt, or a text with blanks."""

import re

import torch
from jaxtyping import Int
from torch import Tensor

from stochloc.app.shelf import Served
from stochloc.core import UNKNOWN
from stochloc.tasks.generate import prompt_tokens
from stochloc.tasks.generate_sequences import draw_length
from stochloc.tasks.infill.templates import Template

_BLANK = re.compile(r"_|\{\d")


def starting_tokens(
    served: Served, prompt: str, length: int | None, seed: int
) -> tuple[Int[Tensor, "1 length"], bool]:
    """Return the tokens that are known at the start of a walk.

    Args:
        served: The model.
        prompt: What the text begins with; with blanks, `_` or `{3}`, what it is: then free places
            follow only if `length` asks for more.
        length: Tokens of the text; as many as in training where absent, of a model of sequences
            drawn as a sample's is.
        seed: Seed of the draw.

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
        given = prompt_tokens(
            served.run.tokenizer, prompt, 1, _length(served, prompt, length, seed)
        )
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


def _length(served: Served, prompt: str, length: int | None, seed: int) -> int:
    run = served.run
    if length is not None:
        return length
    if run.lengths is None:
        return min(run.text_length, served.longest)
    told = prompt_tokens(run.tokenizer, prompt, 1, len(prompt) + 1 if prompt else 1)
    least = max(1, int((told != UNKNOWN).sum()))
    return draw_length(run.lengths.within(least, served.longest), seed, 0)
