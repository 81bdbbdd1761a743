"""The two ways out of a program: results on stdout, and on stderr whatever else a person is told.

They fail differently. A message may be lost, and its loss must not end the work: the reader of
stderr may be gone, its terminal closed, its disk full, or there was no stderr from the start. A
result must arrive: if nobody reads it any more the work may end in peace, but if it cannot be
written the work has failed. Neither is lost to an encoding that lacks a character.

This module uses only Python's standard library; every package but the core may print through it.
"""

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast, final

SPELLED = "stochloc.spelled"
_SYMBOLS = {
    "±": "+/-", "≤": "<=", "≥": ">=", "×": "x", "·": "*", "−": "-", "∞": "inf", "½": "1/2",
    "→": "->", "←": "<-", "–": "-", "—": "-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"',
    "─": "-", "━": "-", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "├": "+", "┤": "+",
}  # fmt: skip


class ReaderGoneError(OSError):
    """Whoever read the results, `head` say, has seen enough."""


class ResultLostError(OSError):
    """Results cannot be written to stdout."""


class _AbstractStream(io.TextIOBase):
    """What a stream says of itself when it stands for another, or for none."""

    def __init__(self, stream: io.TextIOBase | TextIO | None) -> None:
        self.stream = stream

    def isatty(self) -> bool:
        """Return whether it ends in a terminal, which may have been closed since."""
        try:
            return self.stream is not None and self.stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Return the number of the file.

        Raises:
            io.UnsupportedOperation: There is none.
        """
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name of the encoding."""
        return getattr(self.stream, "encoding", None) or "utf-8"


@final
class Messages(_AbstractStream):
    """A stream for messages, whose writes never fail: what cannot be written is lost."""

    def write(self, text: str) -> int:
        """Write, or lose, a text."""
        if self.stream is not None:
            with suppress(OSError, ValueError):  # a closed stream raises ValueError
                self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write, or lose, what is left."""
        if self.stream is not None:
            with suppress(OSError, ValueError):
                self.stream.flush()


@final
class _Results(_AbstractStream):
    """A stream for results, which says in two kinds of error why they do not arrive."""

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            ReaderGoneError: Nobody reads it.
            ResultLostError: It cannot be written.
        """
        if self.stream is None:
            raise ResultLostError("it is closed")
        with self._told_apart():
            return self.stream.write(text)

    def flush(self) -> None:
        """Write what is left; raises as `write` does."""
        if self.stream is not None:
            with self._told_apart():
                self.stream.flush()

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            self._forget()
            raise ReaderGoneError("nobody reads the results") from error
        except OSError as error:
            self._forget()
            raise ResultLostError(error.strerror or str(error)) from error

    def _forget(self) -> None:
        # Python flushes once more when it ends, and would complain about what is left.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


def messages() -> Messages:
    """Return stderr as a stream whose writes never fail, for displays that must not end the work.

    Returns:
        The stream; silent if there is no stderr.
    """
    stream = sys.stderr
    return stream if isinstance(stream, Messages) else Messages(stream)


def tell(line: str) -> None:
    """Tell a person something on stderr; of several processes only the first one speaks.

    Args:
        line: What to tell; it is lost if stderr is.
    """
    if is_first_process():
        print(line, file=messages(), flush=True)


def say(line: str) -> None:
    """Print a line of a longer account on stdout; the work goes on when nobody reads it.

    Args:
        line: What to say.

    Raises:
        ResultLostError: It cannot be written, for another reason than that the reader is gone.
    """
    with suppress(ReaderGoneError):
        print(line, flush=True)


def is_first_process() -> bool:
    """Return whether this is the first of the processes that train one model, or the only one."""
    ranks = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def can_show(text: str) -> bool:
    """Return whether stdout's encoding has every character of a text.

    Args:
        text: Any text.

    Returns:
        Whether it can be written as it is.
    """
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def guarded() -> Iterator[None]:
    """Guard the standard streams for the time of a command.

    Within, writing to `sys.stderr` never fails, writing to `sys.stdout` fails with one of the two
    errors of this module, and characters that an encoding lacks are spelled: symbols in ASCII,
    letters as escapes. Streams that were closed before the program began exist, so that no other
    file gets their numbers: what is read is empty, what is told is lost.
    """
    _open_missing()
    before = sys.stdin, sys.stdout, sys.stderr
    results = _Results(sys.stdout)
    with _spelling(sys.stdout), _spelling(sys.stderr):
        sys.stdin = io.TextIOWrapper(io.BytesIO()) if sys.stdin is None else sys.stdin
        sys.stdout, sys.stderr = cast(TextIO, results), cast(TextIO, messages())
        try:
            yield
        finally:
            with suppress(OSError):
                results.flush()
            sys.stderr.flush()
            sys.stdin, sys.stdout, sys.stderr = before


def _open_missing() -> None:
    """Open what is missing of the first three files; the lowest free number is given first."""
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)


@contextmanager
def _spelling(stream: io.TextIOBase | TextIO | None) -> Iterator[None]:
    """Let a stream spell what its encoding lacks, unless the user chose another way."""
    # Python's own ways: strict, surrogateescape in the C locale, backslashreplace on stderr.
    ways = ("strict", "surrogateescape", "backslashreplace")
    if not isinstance(stream, io.TextIOWrapper) or stream.errors not in ways:
        yield
        return
    before = stream.errors
    stream.reconfigure(errors=SPELLED)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=before)


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _spelled(error.object, error.start), error.start + 1


def _spelled(text: str, place: int) -> str | bytes:
    character = text[place]
    if "\udc80" <= character <= "\udcff":  # a byte of the command line that was no text
        return bytes([ord(character) - 0xDC00])
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    neighbours = text[max(0, place - 1) : place] + text[place + 1 : place + 2]
    name = unicodedata.name(character, "")
    if name.startswith("GREEK SMALL LETTER ") and not any(map(str.isalpha, neighbours)):
        return name.split()[-1].lower()  # a symbol, not a letter of a word
    return character.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(SPELLED, _spell)
