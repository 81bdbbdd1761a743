"""What a training run trains on and is measured on: windows of long texts, or whole sequences."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from stochloc.core import UNKNOWN
from stochloc.data import count_tokens, draw_windows, held_out_windows
from stochloc.data.labels import LabelledTexts
from stochloc.data.sequence_batches import draw_batch
from stochloc.data.sequences import Rows, Sequences
from stochloc.nn import LocalizationModel

BytesOf = Callable[[Tensor], bytes]
SaySample = Callable[[LocalizationModel], str]
DrawWindows = Callable[[np.ndarray, int, int, torch.Generator], Tensor]
HeldOut = Callable[[np.ndarray, int, int], Tensor]
CountTokens = Callable[[np.ndarray, int], np.ndarray]


@runtime_checkable
class TrainingData(Protocol):
    """What a run trains on and is measured on."""

    @property
    def say_sample(self) -> SaySample:
        """Draws a text from the model, to be shown with every held-out bound."""
        ...

    @property
    def first_label(self) -> int:
        """The first token that is a label of a class; 0 when there are no classes."""
        ...

    @property
    def boundary(self) -> int | None:
        """The token at both ends of every sequence; None where texts have no ends."""
        ...

    @property
    def counted(self) -> str:
        """In words, what held-out bits "per token" count."""
        ...

    @property
    def bytes_of(self) -> BytesOf:
        """Returns the text of tokens as UTF-8; b"" where they stand for none."""
        ...

    def counts(self, vocabulary_size: int) -> np.ndarray:
        """Return how often each token occurs in the training text, shape (vocabulary_size,)."""
        ...

    def draw(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        """Return a training batch of at most `rows * length` places, -1 where there is no token."""
        ...

    def held_out(self, length: int, limit: int) -> Iterator[Rows]:
        """Yield rows of held-out text, those of one value of equal length, the same in every call.

        Args:
            length: Tokens per window.
            limit: At most so many windows, or sequences of as many tokens.

        Yields:
            The rows, numbered in the order of the text from 0.

        Raises:
            ValueError: The text is too short for any.
        """
        ...

    def given_in(self, rows: Tensor) -> Tensor:
        """Return the tokens of rows that are given and not scored, and -1 elsewhere."""
        ...


@dataclass(frozen=True)
class Texts:
    """Long texts, of which windows are cut anywhere.

    Attributes:
        train: Tokens of the training text, 1-D.
        valid: Tokens of the held-out text, 1-D.
        say_sample: Draws a text from the model, to be shown with every held-out bound.
        draw_windows: Draws so many training windows of such a length from a text.
        counted: In words, what held-out bits "per token" count.
        count: Counts how often each token occurs in the windows drawn from a text.
        bytes_of: Returns the text of tokens as UTF-8; b"" where they stand for none.
        cut_held_out: Cuts at most so many windows of such a length from the held-out text.
    """

    train: np.ndarray
    valid: np.ndarray
    say_sample: SaySample
    draw_windows: DrawWindows = draw_windows
    counted: str = "tokens of text"
    count: CountTokens = count_tokens
    bytes_of: BytesOf = lambda tokens: b""
    cut_held_out: HeldOut = held_out_windows

    @property
    def first_label(self) -> int:
        """0: there are no classes."""
        return 0

    @property
    def boundary(self) -> None:
        """None: a window begins and ends anywhere."""
        return

    def counts(self, vocabulary_size: int) -> np.ndarray:
        """Return how often each token occurs in the training text."""
        return self.count(self.train, vocabulary_size)

    def draw(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        """Return so many windows of such a length."""
        return self.draw_windows(self.train, rows, length, generator)

    def held_out(self, length: int, limit: int) -> Iterator[Rows]:
        """Yield windows of the held-out text, evenly spaced."""
        windows = self.cut_held_out(self.valid, length, limit)
        yield Rows(torch.arange(len(windows)), windows)

    def given_in(self, rows: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Return -1 everywhere: every token is scored."""
        return torch.full_like(rows, UNKNOWN)


@dataclass(frozen=True)
class ClassTexts:
    """Long texts of several classes, of which windows are cut, each behind its label.

    Attributes:
        train: The training texts.
        valid: The held-out texts.
        first_label: The first token that is a label of a class.
        say_sample: Draws a text from the model, to be shown with every held-out bound.
        counted: In words, what held-out bits "per token" count.
        bytes_of: Returns the text of tokens as UTF-8; b"" where they stand for none.
    """

    train: LabelledTexts
    valid: LabelledTexts
    first_label: int
    say_sample: SaySample
    counted: str = "tokens of text"
    bytes_of: BytesOf = lambda tokens: b""

    @property
    def boundary(self) -> None:
        """None: a window begins and ends anywhere."""
        return

    def counts(self, vocabulary_size: int) -> np.ndarray:
        """Return how often each token occurs in the training texts."""
        return count_tokens(self.train.tokens, vocabulary_size)

    def draw(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        """Return so many windows of such a length, the label included."""
        return self.train.draw(rows, length, generator)

    def held_out(self, length: int, limit: int) -> Iterator[Rows]:
        """Yield windows of the held-out texts, evenly spaced."""
        windows = self.valid.held_out(length, limit)
        yield Rows(torch.arange(len(windows)), windows)

    def given_in(self, rows: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Return the labels, which are given and not scored, and -1 elsewhere."""
        return rows.masked_fill(rows < self.first_label, UNKNOWN)


@dataclass(frozen=True)
class SequenceTexts:
    """Sequences, each with a boundary before and after it, and its label in front if it has one.

    Attributes:
        train: The training sequences, at least one.
        valid: The held-out sequences.
        say_sample: Draws a sequence from the model, to be shown with every held-out bound.
        counted: In words, what held-out bits "per token" count.
        bytes_of: Returns the text of tokens as UTF-8; b"" where they stand for none.
        first_label: The first token that is a label of a class; 0 when there are no classes.
    """

    train: Sequences
    valid: Sequences
    say_sample: SaySample
    counted: str = "tokens of text"
    bytes_of: BytesOf = lambda tokens: b""
    first_label: int = 0

    @property
    def boundary(self) -> int:
        """The token at both ends of every sequence."""
        return self.train.boundary

    def counts(self, vocabulary_size: int) -> np.ndarray:
        """Return how often each token occurs in the texts of the training sequences."""
        return self.train.counts(vocabulary_size)

    def draw(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        """Return sequences of similar length that fill as many places as the windows would."""
        return draw_batch(self.train, rows * length, generator)

    def held_out(self, length: int, limit: int) -> Iterator[Rows]:
        """Yield held-out sequences, evenly spaced, about as many as fill the windows."""
        if not len(self.valid):
            raise ValueError(
                "There are no validation sequences: give more sequences, other --fractions, or a "
                "file of them with --valid."
            )
        num = round(length * limit / (self.valid.mean_length + self.valid.num_given))
        yield from self.valid.spaced(max(1, num)).by_length()

    def given_in(self, rows: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Return boundaries and labels, which are given and not scored, and -1 elsewhere."""
        return rows.masked_fill(rows < self.boundary, UNKNOWN)
