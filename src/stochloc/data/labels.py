"""Texts of several classes: the class is one token in front of every window.

A model of `P(x|y)` needs the same network and the same training as a model of `P(x)`. Every class
has its own token, a label, which stands in front of each window of a text of that class. A known
label conditions the whole window. When the label is unknown, as it often is in training, the same
network is the unconditional model, which guidance needs.

The texts of all classes are kept in one array of tokens, each behind its label:
`label_1 text_1 label_2 text_2 ...`. A window never spans two of them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from stochloc.data.tokenizers.protocol import Tokenizer


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
    if not tokenizer.labels:
        raise ValueError(
            "The model was trained without classes; train one with --data NAME=FILE,NAME=FILE."
        )
    if name not in tokenizer.labels:
        classes = ", ".join(tokenizer.labels)
        raise ValueError(f"There is no class {name!r}; the classes are {classes}.")
    return first_label(tokenizer) + tokenizer.labels.index(name)


def label_name(tokenizer: Tokenizer, token: int) -> str:
    """Return the name of the class with this token."""
    return tokenizer.labels[token - first_label(tokenizer)]


def headed(
    tokens: Integer[np.ndarray, " tokens"], name: str, tokenizer: Tokenizer
) -> Integer[np.ndarray, " longer"]:
    """Return a text's tokens behind its label.

    Args:
        tokens: the text.
        name: the name of its class.
        tokenizer: knows the labels.

    Returns:
        The label and the text, in the smallest type that holds all tokens.

    Raises:
        ValueError: there is no such class.
    """
    dtype = np.min_scalar_type(tokenizer.vocabulary_size - 1)
    return np.insert(np.asarray(tokens, dtype=dtype), 0, label_token(tokenizer, name))


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """The texts of all classes in one array, from which windows of one class each are cut.

    Attributes:
        tokens: every text behind its label, shape (tokens,).
        labels: the positions of the labels.
    """

    tokens: Integer[np.ndarray, " tokens"]
    labels: Integer[np.ndarray, " texts"]

    @classmethod
    def of(cls, tokens: Integer[np.ndarray, " tokens"], tokenizer: Tokenizer) -> "LabelledTexts":
        """Return the texts in an array of tokens.

        Args:
            tokens: every text behind its label, shape (tokens,).
            tokenizer: knows the labels.

        Returns:
            The texts; there are none where no token is a label.

        Raises:
            ValueError: there is text that no label stands in front of.
        """
        labels = np.flatnonzero(np.asarray(tokens) >= first_label(tokenizer))
        if len(labels) and labels[0] != 0:
            raise ValueError("The text of each class must begin with its label.")
        return cls(tokens, labels)

    def check(self, tokenizer: Tokenizer, length: int) -> None:
        """Refuse texts of which one is too short for a window, and would never be drawn.

        Args:
            tokenizer: knows the names of the classes.
            length: tokens per window, its label included.

        Raises:
            ValueError: a text is too short, the message names its class; or there are not as many
                texts as classes.
        """
        if len(self.labels) != len(tokenizer.labels):
            raise ValueError(
                f"The training texts have {len(self.labels)} labels, but the model knows the "
                f"classes {', '.join(tokenizer.labels)}: give a text of each, NAME=FILE,NAME=FILE."
            )
        for name, size in zip(tokenizer.labels, self.sizes, strict=True):
            if size < length - 1:
                raise ValueError(
                    f"The training text of the class {name} has {size} tokens, but windows need "
                    f"{length - 1} and a label: give a longer text or a smaller --length."
                )

    def draw(
        self, num_windows: int, length: int, generator: torch.Generator
    ) -> Int64[Tensor, "num length"]:
        """Return windows whose positions are drawn uniformly among all, with replacement.

        Args:
            num_windows: how many windows to draw.
            length: tokens per window, its label included.
            generator: the source of randomness.

        Returns:
            Windows on the CPU, each behind the label of its text.

        Raises:
            ValueError: no text holds a window.
        """
        ends = np.cumsum(np.maximum(0, self.sizes - length + 2))
        if not len(ends) or not ends[-1]:
            raise self._too_short(length)
        device = generator.device
        drawn = torch.randint(int(ends[-1]), (num_windows,), generator=generator, device=device)
        chosen = drawn.cpu().numpy()
        text = np.searchsorted(ends, chosen, side="right")
        before = np.concatenate([[0], ends])[text]
        return self._cut(text, chosen - before, length)

    def held_out(self, length: int, limit: int | None = None) -> Int64[Tensor, "num length"]:
        """Return windows that do not overlap, the same in every call.

        Args:
            length: tokens per window, its label included.
            limit: at most this many windows, evenly spaced over the texts; None: all of them.

        Returns:
            Windows in the order of the texts, each behind the label of its text; a remainder of a
            text that is shorter than a window is left out.

        Raises:
            ValueError: no text holds a window, or the limit is less than one.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"At most {limit} windows were requested; ask for at least one.")
        if length < 2:
            raise ValueError(f"A window of a class takes a label and text, not {length} tokens.")
        numbers = self.sizes // (length - 1)
        available = int(numbers.sum())
        if not available:
            raise self._too_short(length)
        size = available if limit is None else min(limit, available)
        chosen = np.arange(size) * available // size
        ends = np.cumsum(numbers)
        text = np.searchsorted(ends, chosen, side="right")
        before = np.concatenate([[0], ends])[text]
        return self._cut(text, (chosen - before) * (length - 1), length)

    def of_class(self, label: int) -> "LabelledTexts":
        """Return the texts of one class.

        Args:
            label: the token of the class.

        Returns:
            The texts behind this label; there may be none.
        """
        texts = np.split(self.tokens, self.labels[1:]) if len(self.labels) else []
        own = [text for text in texts if text[0] == label]
        tokens = np.concatenate([self.tokens[:0], *own])
        return LabelledTexts(tokens, np.flatnonzero(tokens == label))

    @property
    def sizes(self) -> Int64[np.ndarray, " texts"]:
        """The tokens of each text, without its label."""
        return np.diff(self.labels, append=len(self.tokens)) - 1

    def _cut(
        self, text: Integer[np.ndarray, " num"], begin: Integer[np.ndarray, " num"], length: int
    ) -> Int64[Tensor, "num length"]:
        label = self.labels[text]
        places = (label + 1 + begin)[:, None] + np.arange(length - 1)
        places = np.concatenate([label[:, None], places], axis=1)
        return torch.from_numpy(np.asarray(self.tokens[places]).astype(np.int64))

    def _too_short(self, length: int) -> ValueError:
        longest = int(self.sizes.max()) if len(self.labels) else 0
        return ValueError(
            f"The longest text of a class has {longest} tokens but a window takes {length - 1} and "
            "a label; give longer texts."
        )


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
