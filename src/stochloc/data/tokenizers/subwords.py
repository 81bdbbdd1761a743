"""Tokens of several characters, learned from a text or read from a file of `tokenizers`.

A text is cut into pieces (`data.tokenizers.pieces`), and each is encoded by the package alone, so
that a file of any size, cut anywhere, gives the ids of the whole text. Every token stands for fixed
bytes, which need not be whole characters: a text is the sum of its tokens. Where it is not, because
the tokenizer lacks a character or drops one, the text is refused and the character named; what the
tokenizer maps, capitals to small letters for instance, is read as mapped.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np
from jaxtyping import Int64, Integer

from stochloc.data.codepoints import decode_utf8
from stochloc.data.tokenizers.library import opened, prepared, spelled, token_bytes
from stochloc.data.tokenizers.pieces import pieces
from stochloc.data.tokenizers.protocol import PlainText, TokenIds, checked, token_dtype
from stochloc.data.tokenizers.unknown import UnknownCharacters, unknown_at

if TYPE_CHECKING:
    from tokenizers import Encoding


@final
@dataclass(frozen=True)
class SubwordTokenizer(PlainText):
    """A tokenizer of the package `tokenizers`.

    Args:
        library: its JSON, as `data.tokenizers.library.prepared` returns it.
        name: what a user called it: `bpe:8000`, a file, `hub:NAME`.
    """

    library: str
    name: str

    @classmethod
    def from_json(cls, text: str, name: str) -> "SubwordTokenizer":
        """Return the tokenizer of a JSON text.

        Args:
            text: what the package `tokenizers` writes to a file.
            name: what a user called it.

        Returns:
            The tokenizer, which does the same wherever a text begins.

        Raises:
            ValueError: it is not a tokenizer, or one whose tokens do not add up to a text.
        """
        try:
            tokenizer = cls(prepared(text), name)
            _ = tokenizer.pieces
        except ValueError as error:
            raise ValueError(f"{name} cannot be used as a tokenizer: {error}") from error
        return tokenizer

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "SubwordTokenizer":
        """Return the tokenizer whose `to_dict` gave these facts.

        Args:
            facts: with the JSON object of the `library` and a `name`.

        Returns:
            An equal tokenizer.

        Raises:
            KeyError, TypeError, ValueError: the facts are not those of this kind.
        """
        if not isinstance(facts["library"], dict) or not isinstance(facts["name"], str):
            raise TypeError("There is no JSON object of the package tokenizers, or no name.")
        return cls.from_json(json.dumps(facts["library"]), facts["name"])

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens, added ones included."""
        return len(self.pieces)

    @property
    def is_byte_level(self) -> bool:
        """False: a token stands for several bytes."""
        return False

    def encode(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the ids of a text.

        Args:
            text: characters that the tokenizer can spell.

        Returns:
            Ids, shape (tokens,).

        Raises:
            UnknownCharactersError: a character cannot be spelled; with its position, from 0.
        """
        ids, done = list[int](), 0
        for piece in pieces([text]):
            encoding = self._encoded(piece, done)
            unspelled = self._unspelled(piece, encoding)
            if unspelled:
                place, character = unspelled[0]
                raise unknown_at(done + place, character, self.parts, self._known)
            ids += encoding.ids
            done += len(piece)
        return np.array(ids, dtype=np.int64)

    def decode(self, ids: TokenIds) -> str:
        """Return the text of tokens, with U+FFFD where their bytes are not UTF-8.

        Args:
            ids: numbers from 0 to V - 1.

        Returns:
            The text; a window may begin and end within a character.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: TokenIds) -> bytes:
        """Return the bytes of tokens, those of parts of characters too."""
        known = checked(ids, self.vocabulary_size)
        return b"".join(self.pieces[token] for token in known.tolist())

    def encode_stream(self, chunks: Iterable[bytes]) -> Iterator[Integer[np.ndarray, " tokens"]]:
        """Yield ids piece by piece, in the smallest unsigned type that holds them.

        Args:
            chunks: UTF-8 bytes, cut anywhere.

        Yields:
            Ids; joined, those of the whole text.

        Raises:
            UnknownCharactersError: characters cannot be spelled; the message counts them.
            ValueError: the bytes are not UTF-8.
        """
        dtype, unknown = token_dtype(self.vocabulary_size), UnknownCharacters(self.parts)
        for piece in pieces(decode_utf8(chunks)):
            encoding = self._encoded(piece, 0)
            unknown.look_at(piece, self._unspelled(piece, encoding))
            if not unknown.counts:
                yield np.array(encoding.ids, dtype=dtype)
        unknown.refuse(self._known)

    def places(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Return the position of the character that each token begins in."""
        found, done = list[int](), 0
        for piece in pieces([text]):
            found += [done + begin for begin, _ in self._encoded(piece, done).offsets]
            done += len(piece)
        return np.array(found, dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return the kind, the name and the JSON of the package."""
        return {"kind": "subwords", "name": self.name, "library": json.loads(self.library)}

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of every token."""
        return token_bytes(self.library)

    @cached_property
    def _decoder(self) -> dict[str, Any] | None:
        return json.loads(self.library)["decoder"]

    @cached_property
    def _unknown_token(self) -> str | int | None:
        model = json.loads(self.library)["model"]
        return model.get("unk_token", model.get("unk_id"))

    @property
    def _known(self) -> str:
        return f"the characters that the tokens of {self.name} spell"

    @cached_property
    def _opened(self) -> Any:  # noqa: ANN401  (of an extra)
        return opened(self.library)

    def _encoded(self, piece: str, done: int) -> "Encoding":
        try:
            piece.encode()
        except UnicodeEncodeError as error:
            place = error.start
            raise unknown_at(done + place, piece[place], self.parts, self._known) from error
        return self._opened.encode(piece, add_special_tokens=False)

    def _unspelled(self, piece: str, encoding: "Encoding") -> list[tuple[int, str]]:
        """Return the characters of a piece that its tokens do not spell, with their positions."""
        if self._spells(piece, encoding.ids):
            return []
        # Characters within a token for whatever is unknown; without one they are dropped.
        lost = {
            place
            for token, sign, span in zip(
                encoding.ids, encoding.tokens, encoding.offsets, strict=True
            )
            if self._unknown_token in (token, sign)
            for place in range(*span)
        }
        if not lost:
            alone = {c: self._opened.encode(c, add_special_tokens=False).ids for c in set(piece)}
            dropped = {c for c, ids in alone.items() if not self._spells(c, ids)}
            lost = {place for place, character in enumerate(piece) if character in dropped}
        if not lost:
            raise ValueError(
                f"The tokens of {self.name} do not add up to the text: {piece[:40]!r} would be "
                f"read as {self.decode(encoding.ids)[:40]!r}."
            )
        return [(place, piece[place]) for place in sorted(lost)]

    def _spells(self, piece: str, ids: list[int]) -> bool:
        """Return whether tokens are a text, mapped as the tokenizer maps texts."""
        normalizer = self._opened.normalizer
        mapped = piece if normalizer is None else normalizer.normalize_str(piece)
        return self.decode_bytes(ids) == spelled(mapped, self._decoder).encode()
