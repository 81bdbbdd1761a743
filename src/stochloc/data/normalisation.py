"""Text normalised for a tokenizer: line breaks, byte order marks and Unicode forms.

Characters that the tokenizer knows are left unchanged. Others are rewritten where Unicode has an
alternative: CR LF and CR become LF, a byte order mark at the beginning is dropped, and a letter
with its accents is composed (NFC) or decomposed (NFD). The same holds for training text, whose
alphabet is collected after line breaks and marks have been normalised. Nothing is changed
silently: every change has a note.
"""

import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import accumulate
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from stochloc.data.tokenizers.parts import Parts

Form = Literal["NFC", "NFD"]
FORMS: tuple[Form, ...] = ("NFC", "NFD")
MARK = "\ufeff"
BREAKS_NOTE = "line breaks CR LF or CR were read as LF"
MARK_NOTE = "a byte order mark was left out"
FORM_NOTE = "accented characters were read in their {} form, which the model knows"


@runtime_checkable
class _Encodes(Protocol):
    def encode(self, text: str) -> np.ndarray:
        """Return the token ids of a text, or raise `ValueError` if it cannot be encoded."""
        ...


@runtime_checkable
class _Knows(_Encodes, Protocol):
    @property
    def parts(self) -> Parts:
        """What is known or unknown, each by itself."""
        ...


@dataclass(frozen=True)
class NormalisedText:
    """An input text, normalised for a tokenizer.

    Attributes:
        text: the text; what the tokenizer knows in no form is left in place.
        places: for every character of `text`, its position in the input, from 0.
        unknown: what the tokenizer does not know, characters or words, by the position in `text`
            where it begins.
        notes: what was changed, in words.
        parts: whether characters or words are known or unknown.
    """

    text: str
    places: tuple[int, ...]
    unknown: Mapping[int, str]
    notes: tuple[str, ...]
    parts: Parts

    def known_only(self) -> str:
        """Return the text if the tokenizer knows all of it.

        Returns:
            The text.

        Raises:
            ValueError: a part of it is unknown; the message gives its position, from 1.
        """
        if not self.unknown:
            return self.text
        first, *rest = self.unknown.items()
        others = {part for _, part in rest} - {first[1]}
        more = f", nor are {', '.join(map(repr, sorted(others)))}" if others else ""
        raise ValueError(
            f"The {self.parts.name} {first[1]!r} at position {self.places[first[0]] + 1}, counted "
            f"from 1, is not in the model's {self.parts.known}{more}; remove or replace it."
        )


def knowing(tokenizer: _Encodes) -> Callable[[str], bool]:
    """Return a predicate that tells whether a tokenizer can encode a text.

    Args:
        tokenizer: raises ValueError for text that it cannot encode.

    Returns:
        A function of a text, whose results are cached.
    """
    return cache(partial(_can_encode, tokenizer))


def _can_encode(tokenizer: _Encodes, text: str) -> bool:
    try:
        tokenizer.encode(text)
    except ValueError:
        return False
    return True


def normalise(typed: str, tokenizer: _Knows) -> NormalisedText:
    """Return a text normalised for a tokenizer.

    Args:
        typed: any text.
        tokenizer: raises ValueError for text that it cannot encode.

    Returns:
        The text, the changes made and what is still unknown.
    """
    knows, parts = knowing(tokenizer), tokenizer.parts
    if knows(typed):
        return NormalisedText(typed, tuple(range(len(typed))), {}, (), parts)
    text, places, notes = "", list[int](), dict[str, None]()
    for start, cluster in _clusters(parts.split(typed)):
        form, note = _best(cluster, start == 0, lambda text: _unknown_in(text, parts, knows))
        text += form
        places += [start + min(n, len(cluster) - 1) for n in range(len(form))]
        notes |= dict.fromkeys([note] if note else [])
    unknown = _unknown_in(text, parts, knows)
    return NormalisedText(text, tuple(places), unknown, tuple(notes), parts)


def _unknown_in(text: str, parts: Parts, knows: Callable[[str], bool]) -> dict[int, str]:
    """Return the unknown parts of a text by the position where each begins."""
    pieces = parts.split(text)
    begins = accumulate(map(len, pieces), initial=0)
    return {place: part for place, part in zip(begins, pieces, strict=False) if not knows(part)}


@dataclass
class PlainBytes:
    """UTF-8 bytes with LF for CR LF and CR, and without a byte order mark.

    Attributes:
        chunks: the original bytes.
        keeps_breaks: leave CR as it is.
        keeps_mark: leave a byte order mark at the beginning.
        notes: what was changed, in words; complete once all chunks were read.
    """

    chunks: Iterable[bytes]
    keeps_breaks: bool = False
    keeps_mark: bool = False
    notes: dict[str, None] = field(default_factory=dict)

    @classmethod
    def for_tokenizer(cls, chunks: Iterable[bytes], tokenizer: _Encodes) -> "PlainBytes":
        """Return bytes in which what a tokenizer can encode is left unchanged.

        Args:
            chunks: the original bytes.
            tokenizer: raises ValueError for text that it cannot encode.

        Returns:
            The bytes; those that the tokenizer maps or drops itself are left to it.
        """
        knows = knowing(tokenizer)
        return cls(chunks, keeps_breaks=knows("\r"), keeps_mark=knows(MARK))

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes, piece by piece."""
        mark, held, is_first = MARK.encode(), b"", not self.keeps_mark
        for piece in self.chunks:
            chunk, held = held + piece, b""
            if is_first and len(chunk) < len(mark) and mark.startswith(chunk):
                held = chunk
                continue
            if is_first and chunk.startswith(mark):
                chunk = chunk.removeprefix(mark)
                self.notes[MARK_NOTE] = None
            is_first = False
            if chunk.endswith(b"\r") and not self.keeps_breaks:
                # The LF that belongs to it may be the first byte of the next piece.
                chunk, held = chunk[:-1], b"\r"
            yield self._with_lf(chunk)
        yield self._with_lf(held)

    def _with_lf(self, chunk: bytes) -> bytes:
        if self.keeps_breaks or b"\r" not in chunk:
            return chunk
        self.notes[BREAKS_NOTE] = None
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def in_form(pieces: Iterable[str], form: Form) -> Iterator[str]:
    """Yield a text in a Unicode form, in memory that does not grow with the text.

    A text may be cut before a character that neither combines with the one before nor composes with
    it; what is after the last such place waits for the next piece.

    Args:
        pieces: the text, cut anywhere.
        form: the composed or the decomposed form.

    Yields:
        Pieces; joined, the form of the whole text.
    """
    held = ""
    for piece in pieces:
        held += piece
        # What was held had a place to cut at its first character alone.
        cut = next((n for n in range(len(held) - 1, 0, -1) if _begins(held[n])), 0)
        if cut:
            yield unicodedata.normalize(form, held[:cut])
            held = held[cut:]
    yield unicodedata.normalize(form, held)


def _begins(character: str) -> bool:
    first = unicodedata.normalize("NFD", character)[0]
    return unicodedata.combining(first) == 0 and first not in _composing()


@cache
def _composing() -> frozenset[str]:
    """Characters that a composed form joins to the one before: second parts of compositions."""
    decompositions = map(unicodedata.decomposition, map(chr, range(sys.maxunicode + 1)))
    parts = [parts.split() for parts in decompositions if parts and not parts.startswith("<")]
    # Vowels and final consonants of Hangul syllables are composed by a rule, not by a table.
    hangul = map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)))
    return frozenset({chr(int(pair[1], 16)) for pair in parts if len(pair) == 2} | set(hangul))


def _clusters(parts: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield parts that are normalised as a unit, joined, with the positions where they begin."""
    start, cluster = 0, ""
    for part in parts:
        if cluster and not _belongs(cluster, part):
            yield start, cluster
            start, cluster = start + len(cluster), ""
        cluster += part
    if cluster:
        yield start, cluster


def _belongs(cluster: str, part: str) -> bool:
    if part.isascii():
        return cluster == "\r" and part == "\n"
    forms = unicodedata.normalize("NFC", cluster), unicodedata.normalize("NFC", part)
    is_composed = unicodedata.normalize("NFC", cluster + part) != "".join(forms)
    return unicodedata.combining(part[0]) > 0 or is_composed


def _best(
    cluster: str, is_first: bool, unknown_in: Callable[[str], Sized]
) -> tuple[str, str | None]:
    """Return the form of a piece with the fewest unknown parts, and what was changed."""
    if not unknown_in(cluster):
        return cluster, None
    if cluster in ("\r\n", "\r") and not unknown_in("\n"):
        return "\n", BREAKS_NOTE
    if is_first and cluster == MARK:
        return "", MARK_NOTE
    forms = {"": cluster} | {form: unicodedata.normalize(form, cluster) for form in ("NFC", "NFD")}
    best = min(forms, key=lambda form: len(unknown_in(forms[form])))
    return forms[best], FORM_NOTE.format(best) if best else None
