"""Texts with blanks: `the ____ of the sea`, `once {3} a {2-5}`.

Every `_` is a blank of one token, `{n}` one of n tokens, and `{a-b}` one of unknown length, from a
to b. `{{` and `}}` stand for braces. A template with blanks of unknown length has several layouts,
one for each combination of lengths. Blanks are numbered from 1, from left to right.
"""

import itertools
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from unicodedata import normalize

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stochloc.core import UNKNOWN
from stochloc.data import Tokenizer
from stochloc.data.normalisation import normalise

MAX_LAYOUTS = 64


@dataclass(frozen=True)
class Blank:
    """Tokens to be filled in.

    Attributes:
        shortest: The least number of tokens, at least 0.
        longest: The largest, at least 1.
    """

    shortest: int
    longest: int


@dataclass(frozen=True, eq=False)
class Layout:
    """A template whose blanks have definite lengths.

    Attributes:
        known: The given tokens, `-1` in the blanks.
        blank: The number of the blank that each token belongs to, from 0; `-1` for given ones.
        num_blanks: Number of blanks, empty ones included.
    """

    known: Int[Tensor, " length"]
    blank: Int[Tensor, " length"]
    num_blanks: int

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.known)


@dataclass(frozen=True)
class Template:
    """Given text and blanks in turn.

    Attributes:
        pieces: Token ids of given text, or a blank.
        notes: How the text was normalised (`data.normalisation`).
    """

    pieces: tuple[tuple[int, ...] | Blank, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, tokenizer: Tokenizer, marker: str = "_") -> "Template":
        """Read a template.

        Args:
            text: The text with its blanks.
            tokenizer: How the given text becomes tokens.
            marker: What stands for a blank of one token.

        Returns:
            The template.

        Raises:
            ValueError: There is no blank, a marker is malformed, or a character is unknown.
        """
        if not marker or set(marker) & set("{}"):
            raise ValueError(f"A blank cannot be marked by {marker!r}; use a character like '_'.")
        pieces: list[tuple[int, ...] | Blank] = []
        notes = dict[str, None]()
        given, places, end = "", list[int](), 0

        def take() -> tuple[int, ...]:
            seen = normalise(given, tokenizer)
            notes.update(dict.fromkeys(seen.notes))
            # Positions in messages are those in the template, with its blanks and braces.
            placed = replace(seen, places=tuple(places[place] for place in seen.places))
            return _ids(placed.known_only(), tokenizer)

        for part in re.split(rf"({{{{|}}}}|{{[^{{}}]*}}|[{{}}]|{re.escape(marker)})", text):
            start, end = end, end + len(part)
            if part in ("{{", "}}"):
                given, places = given + part[0], [*places, start]
            elif part == marker or part[:1] in ("{", "}"):
                pieces += [take(), _read_blank(part, marker)]
                given, places = "", []
            else:
                given, places = given + part, [*places, *range(start, end)]
        pieces.append(take())
        if not any(isinstance(piece, Blank) for piece in pieces):
            raise ValueError(
                f"There is no blank in {text!r}; mark one by {marker}, {{3}} or {{2-5}}."
            )
        return cls(tuple(pieces), tuple(notes))

    @property
    def blanks(self) -> tuple[Blank, ...]:
        """The blanks from left to right."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Blank))

    def layouts(self) -> list[Layout]:
        """Return a layout for every combination of lengths.

        Returns:
            The layouts of at least one token, short blanks first.

        Raises:
            ValueError: There are more than 64.
        """
        lengths = [range(blank.shortest, blank.longest + 1) for blank in self.blanks]
        if (num := math.prod(map(len, lengths))) > MAX_LAYOUTS:
            raise ValueError(
                f"The blanks can have {num} combinations of lengths, and at most {MAX_LAYOUTS} are "
                "tried; narrow the ranges."
            )
        layouts = [self._lay_out(chosen) for chosen in itertools.product(*lengths)]
        return [layout for layout in layouts if len(layout)]

    def _lay_out(self, lengths: Sequence[int]) -> Layout:
        known: list[int] = []
        blank: list[int] = []
        numbered = enumerate(lengths)
        for piece in self.pieces:
            if isinstance(piece, Blank):
                number, length = next(numbered)
                known += [UNKNOWN] * length
                blank += [number] * length
            else:
                known += piece
                blank += [-1] * len(piece)
        return Layout(torch.tensor(known), torch.tensor(blank), len(lengths))


def check_template(
    text: str, tokenizer: Tokenizer, constraints: Sequence[str] = (), marker: str = "_"
) -> None:
    """Refuse a template, or constraints of its blanks, that no model of a tokenizer can fill.

    Args:
        text: As for `Template.parse`.
        tokenizer: As for `Template.parse`.
        constraints: As for `allowed_tokens`.
        marker: As for `Template.parse`.

    Raises:
        ValueError: As `Template.parse`, `Template.layouts` and `allowed_tokens`.
    """
    template = Template.parse(text, tokenizer, marker)
    template.layouts()
    allowed_tokens(constraints, len(template.blanks), tokenizer)


def allowed_tokens(
    constraints: str | Sequence[str], num_blanks: int, tokenizer: Tokenizer
) -> Bool[Tensor, "blanks vocabulary"]:
    """Return which tokens each blank may hold.

    Args:
        constraints: Sets of characters such as `aeiou` or `a-e` for all blanks, `2:xyz` for the
            second blank; a blank named by several may hold what they have in common. Characters are
            read as the model reads a text, capitals as small letters where it knows these alone. Of
            a range only the characters that the model knows count; a character given by itself must
            be known. A single string is one such set, not one for each of its characters.
        num_blanks: Number of blanks.
        tokenizer: What the tokens stand for.

    Returns:
        True for allowed tokens: those of which every character is in the set.

    Raises:
        ValueError: A set is malformed, names a blank that is not there or a character of which no
            token is made, has a range of which the model knows nothing, or leaves a blank without
            allowed tokens.
    """
    constraints = (constraints,) if isinstance(constraints, str) else constraints
    allowed = torch.ones(num_blanks, tokenizer.vocabulary_size, dtype=torch.bool)
    if not constraints:
        return allowed
    spelled = [_spelled(tokenizer, token) for token in range(tokenizer.vocabulary_size)]
    alphabet = _alphabet(tokenizer, set("".join(spelled)))
    for constraint in constraints:
        number, characters = _read_constraint(constraint, alphabet)
        if number is not None and not 1 <= number <= num_blanks:
            raise ValueError(f"There is no blank {number} to constrain; there are {num_blanks}.")
        in_set = torch.tensor([bool(text) and characters >= set(text) for text in spelled])
        allowed[slice(None) if number is None else number - 1] &= in_set
    empty = (~allowed.any(-1)).nonzero()
    if len(empty):
        raise ValueError(f"The constraints leave no allowed token for blank {int(empty[0]) + 1}.")
    return allowed


def _ids(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    return tuple(np.asarray(tokenizer.encode(text)).tolist())


def _read_blank(part: str, marker: str) -> Blank:
    if part == marker:
        return Blank(1, 1)
    match = re.fullmatch(r"\{([0-9]{1,6})(?:-([0-9]{1,6}))?\}", part)
    shortest, longest = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 <= shortest <= longest or longest < 1:
        raise ValueError(
            f"The marker {part!r} is not a blank; write {{3}} for three tokens, {{2-5}} for two to "
            "five, and {{ for a brace."
        )
    return Blank(shortest, longest)


def _read_constraint(constraint: str, alphabet: dict[str, str]) -> tuple[int | None, set[str]]:
    match = re.fullmatch(r"(?:([0-9]{1,6}):)?(.+)", normalize("NFC", constraint), re.DOTALL)
    if match is None:
        raise ValueError(
            f"The constraint {constraint!r} names no characters; write aeiou or 1:a-e."
        )
    characters: set[str] = set()
    for first, last, single in re.findall(r"(.)-(.)|(.)", match[2], re.DOTALL):
        if first > last:
            raise ValueError(f"The range {first}-{last} in {constraint!r} runs backwards.")
        if single and single not in alphabet:
            raise ValueError(f"The character {single!r} is in no token of the model.")
        known = {alphabet[single]} if single else _between(first, last, alphabet)
        if not known:
            raise ValueError(f"The model knows no character of the range {first}-{last}.")
        characters |= known
    return (int(match[1]) if match[1] else None), characters


def _between(first: str, last: str, alphabet: dict[str, str]) -> set[str]:
    return {read for character, read in alphabet.items() if first <= character <= last}


def _spelled(tokenizer: Tokenizer, token: int) -> str:
    """Return the text of a token, "" if it has none or is a part of a character."""
    try:
        return tokenizer.decode_bytes([token]).decode()
    except UnicodeDecodeError:
        return ""


def _alphabet(tokenizer: Tokenizer, characters: set[str]) -> dict[str, str]:
    """Return what each character is read as: those of the tokens, and other cases of them."""
    alphabet = {character: character for character in characters}
    for character in characters:
        for form in {character, character.upper(), character.lower()}:
            with suppress(ValueError):
                read = tokenizer.decode(tokenizer.encode(form))
                if read in characters and read.lower() == form.lower():
                    alphabet[form] = read
    return alphabet
