"""The two outputs of a program: results on stdout, and all other messages on stderr.

They fail differently. A message may be lost, and its loss must not end the work: the reader of
stderr may be gone, its terminal closed, its disk full, or there was no stderr from the start. A
result must arrive: if its reader has gone the work may end without an error, but if it cannot be
written the work has failed. Neither is lost because an encoding lacks a character.

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
    """The reader of the results, for example `head`, has gone."""


class ResultLostError(OSError):
    """Results cannot be written to stdout."""


class _AbstractStream(io.TextIOBase):
    """The properties of a stream that wraps another one, or none."""

    def __init__(self, stream: io.TextIOBase | TextIO | None) -> None:
        self.stream = stream

    def isatty(self) -> bool:
        """Return whether it is a terminal, which may have been closed since."""
        try:
            return self.stream is not None and self.stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Return the file descriptor.

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

    def _forget(self) -> None:
        # Python flushes once more when it exits, and would end with 120 for what is still buffered.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


@final
class Messages(_AbstractStream):
    """A stream for messages, whose writes never fail: what cannot be written is dropped.

    After a failure all later messages are dropped too.
    """

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        if self.stream is not None:
            with self._dropping():
                self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        if self.stream is not None:
            with self._dropping():
                self.stream.flush()

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._forget()
        except ValueError:  # the stream is closed
            pass


@final
class _Results(_AbstractStream):
    """A stream for results, which raises one of two errors if they cannot be delivered."""

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
        """Write what is buffered; raises as `write` does."""
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


def messages() -> Messages:
    """Return stderr as a stream whose writes never fail, for displays that must not end the work.

    Returns:
        The stream; silent if there is no stderr.
    """
    stream = sys.stderr
    return stream if isinstance(stream, Messages) else Messages(stream)


def tell(line: str) -> None:
    """Print a message on stderr; of several processes only the first prints.

    Args:
        line: The message; it is dropped if stderr is closed.
    """
    if is_first_process():
        print(line, file=messages(), flush=True)


def say(line: str) -> None:
    """Print a line of a longer report on stdout; the work continues if nobody reads it.

    Args:
        line: The line.

    Raises:
        ResultLostError: It cannot be written, for a reason other than that the reader has gone.
    """
    with suppress(ReaderGoneError):
        print(line, flush=True)


def times(number: int, noun: str) -> str:
    """Return a number with its noun: 1 call, 2 calls.

    Args:
        number: How many.
        noun: The noun of one.

    Returns:
        Both; the noun with an s unless there is exactly one.
    """
    return f"{number} {noun}{'s' * (number != 1)}"


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

    Inside the block, writing to `sys.stderr` never fails, writing to `sys.stdout` fails only with
    the two errors of this module, and characters that an encoding lacks are replaced: symbols by
    ASCII, letters by escapes. Streams that were closed before the program began are reopened, so
    that no other file gets their descriptors: input is empty, messages are dropped.
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
    """Open the missing ones of the first three descriptors; the lowest free one is used first."""
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)


@contextmanager
def _spelling(stream: io.TextIOBase | TextIO | None) -> Iterator[None]:
    """Make a stream replace what its encoding lacks, unless the user chose another way."""
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
