"""Texts of several classes: the class is a token, which occurs in every window.

A model of `P(x|y)` needs the same network and the same training as a model of `P(x)`. Every class
has its own token, and the tokens of a text of that class are interleaved with it: one label, then
`PERIOD - 1` tokens of text, and so on. A known label conditions the text around it. When the label
is unknown, as it often is in training, the same network is the unconditional model, which guidance
needs.
"""

import numpy as np
from jaxtyping import Integer

from stochloc.data.tokenizers.protocol import Tokenizer

PERIOD = 64


def first_label(tokenizer: Tokenizer) -> int:
    """Return the token of the first class, above all tokens of text; V where there is none."""
    return tokenizer.vocabulary_size - len(tokenizer.labels)


def first_given(tokenizer: Tokenizer) -> int:
    """Return the first of the tokens that are only ever given, above all of text.

    Args:
        tokenizer: has a boundary, labels, both or neither.

    Returns:
        The boundary, or else the first label; V where there is neither.
    """
    return first_label(tokenizer) if tokenizer.boundary is None else tokenizer.boundary


def label_token(tokenizer: Tokenizer, name: str) -> int:
    """Return the token of a class.

    Args:
        tokenizer: knows the labels.
        name: the name of the class.

    Returns:
        Its id, above those of the texts.

    Raises:
        ValueError: there is no such class.
    """
    if name not in tokenizer.labels:
        classes = ", ".join(tokenizer.labels)
        raise ValueError(f"There is no class {name!r}; the classes are {classes}.")
    return first_label(tokenizer) + tokenizer.labels.index(name)


def interleave(
    tokens: Integer[np.ndarray, " tokens"], name: str, tokenizer: Tokenizer
) -> Integer[np.ndarray, " longer"]:
    """Return a text's tokens with its label before every `PERIOD - 1` of them.

    Args:
        tokens: the text.
        name: the name of its class.
        tokenizer: knows the labels.

    Returns:
        The labelled text, in the smallest type that holds all tokens.

    Raises:
        ValueError: there is no such class.
    """
    places = np.arange(0, len(tokens), PERIOD - 1)
    dtype = np.min_scalar_type(tokenizer.vocabulary_size - 1)
    return np.insert(np.asarray(tokens, dtype=dtype), places, label_token(tokenizer, name))


def parse_classes(data: str) -> dict[str, str]:
    """Return the files of `NAME=FILE,NAME=FILE,...`.

    Args:
        data: what a user gave as data.

    Returns:
        File by name; empty if this is not the form of labelled texts.

    Raises:
        ValueError: a part has no name or no file, or a name is given twice.
    """
    if "=" not in data:
        return {}
    classes: dict[str, str] = {}
    for part in data.split(","):
        name, _, file = part.partition("=")
        if not name or not file or name in classes:
            raise ValueError(
                f"Labelled texts are given as NAME=FILE,NAME=FILE with different names, not {data}."
            )
        classes[name] = file
    if len(classes) < 2:
        raise ValueError(f"Labels need at least two classes, NAME=FILE,NAME=FILE, not {data}.")
    return classes
