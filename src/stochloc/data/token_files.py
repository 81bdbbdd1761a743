"""Texts encoded once and stored on disk as memory-mapped token arrays.

A cache entry consists of two files named by a hash of the text's bytes and the tokenizer:
`.tokens`, the raw ids, and `.json`, their type and number. Each is written completely or not at
all, and an entry whose length differs from the recorded one is encoded again. `token_cache` limits
the size of the folder. Knows nothing of splits.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Int64, Integer, UInt

from stochloc.data.codepoints import decode_utf8
from stochloc.data.normalisation import FORM_NOTE, FORMS, Form, PlainBytes, in_form
from stochloc.data.texts import TextSource, UnknownCharactersError, file_source, naming
from stochloc.data.token_cache import cache_folder, prune, sweep, unusable, write_atomically
from stochloc.data.tokenizers.protocol import Tokenizer, token_dtype
from stochloc.terminal import tell

COUNT_TOKENS = 1 << 22
Write = Callable[[Path], tuple[str, ...]]


@dataclass(frozen=True)
class TokenFile:
    """A memory-mapped, read-only array of tokens on disk.

    Attributes:
        path: the file of raw ids.
        dtype: the type of an id: "uint8", "uint16" or "uint32"; "uint64" for hashes.
        num_tokens: the number of ids in the file.
        notes: changes made to the text so that it could be encoded (`data.normalisation`).
    """

    path: Path
    dtype: str
    num_tokens: int
    notes: tuple[str, ...] = ()

    @cached_property
    def tokens(self) -> UInt[np.ndarray, " tokens"]:
        """The token ids, read from disk when they are accessed."""
        return np.memmap(self.path, dtype=self.dtype, mode="r", shape=(self.num_tokens,))

    def __len__(self) -> int:
        return self.num_tokens


def encode_file(
    path: str | Path, tokenizer: Tokenizer, cache_dir: str | Path | None = None
) -> TokenFile:
    """Encode a text file once; later calls memory-map the stored tokens.

    Args:
        path: a text file, plain or compressed (`.xz`, `.gz`, `.bz2`, `.zip`).
        tokenizer: turns the file's bytes into ids.
        cache_dir: the cache folder; None: `$STOCHLOC_CACHE`, or else `~/.cache/stochloc`.

    Returns:
        The tokens of the whole file.

    Raises:
        ValueError: the file is missing, empty, unreadable, or the tokenizer cannot encode it.
        OSError: the tokens cannot be written; no partial file is left.
    """
    return encode_source(file_source(path), tokenizer, cache_dir)


def encode_source(
    source: TextSource, tokenizer: Tokenizer, cache_dir: str | Path | None = None
) -> TokenFile:
    """Encode a text once; later calls memory-map the stored tokens.

    Args:
        source: the text and the fingerprint that identifies it.
        tokenizer: turns the text's bytes into ids.
        cache_dir: the cache folder; None: `$STOCHLOC_CACHE`, or else `~/.cache/stochloc`.

    Returns:
        The tokens of the whole text.

    Raises:
        ValueError: the text is empty or unreadable, or the tokenizer cannot encode it.
        OSError: the tokens cannot be written; no partial file is left.
    """
    # Version 2: line breaks and byte order marks are normalised where the tokenizer lacks them.
    facts = {"text": dict(source.fingerprint), "tokenizer": tokenizer.to_dict(), "version": 2}
    dtype = token_dtype(tokenizer.vocabulary_size)
    write = partial(_write_source, source=source, tokenizer=tokenizer, dtype=dtype)
    return stored(source.name, facts, dtype, write, cache_dir)


def stored(
    name: str,
    facts: Mapping[str, Any],
    dtype: np.dtype[Any],
    write: Write,
    cache_dir: str | Path | None = None,
) -> TokenFile:
    """Return an array on disk, which the first call writes and later ones memory-map.

    Args:
        name: the name of the text in messages.
        facts: JSON values that determine the array.
        dtype: the type of its numbers.
        write: writes them to a path, completely or not at all, and returns notes of what was
            changed in the text.
        cache_dir: the cache folder; None: `$STOCHLOC_CACHE`, or else `~/.cache/stochloc`.

    Returns:
        The array.

    Raises:
        ValueError: the folder cannot be used; and as `write` does.
        OSError: the array cannot be written; no partial file is left.
    """
    folder = cache_folder(cache_dir)
    sweep(folder)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    entry = folder / key
    found = _find(entry) or _build(entry, name, dtype, write)
    for note in found.notes:
        tell_once(f"stochloc: in {name}, {note}.")
    return found


def count_tokens(
    tokens: Integer[np.ndarray, " tokens"], vocabulary_size: int
) -> Int64[np.ndarray, " vocabulary"]:
    """Return how often each token occurs, in memory that does not grow with the text.

    Args:
        tokens: shape (tokens,), often memory-mapped.
        vocabulary_size: number of different tokens, **V**.

    Returns:
        Counts, shape (vocabulary_size,).
    """
    # One `bincount` over everything would first convert the whole file to eight bytes a token.
    counts = np.zeros(vocabulary_size, dtype=np.int64)
    for begin in range(0, len(tokens), COUNT_TOKENS):
        counts += np.bincount(tokens[begin : begin + COUNT_TOKENS], minlength=vocabulary_size)
    return counts


def _find(entry: Path) -> TokenFile | None:
    tokens = entry.with_suffix(".tokens")
    try:
        facts = json.loads(entry.with_suffix(".json").read_text())
        found = TokenFile(tokens, facts["dtype"], facts["num_tokens"], tuple(facts["notes"]))
        size = tokens.stat().st_size
        if not (size > 0 and size == len(found) * np.dtype(found.dtype).itemsize):
            return None
        # Mapped immediately: from now on another process may unlink the file.
        _ = found.tokens
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):  # A cache that cannot be written to can still be read.
        os.utime(entry.with_suffix(".json"))
    return found


def _build(entry: Path, name: str, dtype: np.dtype[Any], write: Write) -> TokenFile:
    if not os.access(entry.parent, os.W_OK):
        raise unusable(entry.parent, "it is not writable")
    tokens = entry.with_suffix(".tokens")
    notes = write(tokens)
    num_tokens = tokens.stat().st_size // dtype.itemsize
    facts = {"dtype": dtype.name, "num_tokens": num_tokens, "text": name, "notes": notes}
    with write_atomically(entry.with_suffix(".json")) as file:
        file.write(json.dumps(facts).encode())
    built = TokenFile(tokens, dtype.name, num_tokens, notes)
    _ = built.tokens
    prune(entry.parent, entry.name)
    return built


def _write_source(
    tokens: Path, source: TextSource, tokenizer: Tokenizer, dtype: np.dtype[Any]
) -> tuple[str, ...]:
    """Write the tokens of a text, in its other Unicode form if the tokenizer knows only that."""
    try:
        return _write_text(tokens, source, tokenizer, dtype)
    except UnknownCharactersError:
        other = _other_form(source, tokenizer)
        if other is None:
            raise
        form = FORM_NOTE.format(other.fingerprint["form"])
        return (*_write_text(tokens, other, tokenizer, dtype), form)


def _write_text(
    tokens: Path, source: TextSource, tokenizer: Tokenizer, dtype: np.dtype[Any]
) -> tuple[str, ...]:
    """Write the tokens of a text and return notes of the changes that were made to it."""
    plain = PlainBytes.for_tokenizer(source.chunks(), tokenizer)
    with write_atomically(tokens) as file:
        _write_tokens(file, source, plain, tokenizer, dtype)
    return tuple(plain.notes)


def _other_form(source: TextSource, tokenizer: Tokenizer) -> TextSource | None:
    """Return a text in the Unicode form that a tokenizer knows, if there is one."""
    for form in FORMS:
        chunks = PlainBytes.for_tokenizer(_encoded(source, form), tokenizer)
        with naming(source), suppress(UnknownCharactersError):
            for _ in tokenizer.encode_stream(chunks):
                pass
            facts = {**source.fingerprint, "form": form}
            return TextSource(source.name, facts, partial(_encoded, source, form))
    return None


def _encoded(source: TextSource, form: Form) -> Iterator[bytes]:
    return (piece.encode() for piece in in_form(decode_utf8(source.chunks()), form))


@cache
def tell_once(line: str) -> None:
    """Tell a person something that need not be repeated.

    Args:
        line: one line for stderr.
    """
    tell(line)


def _write_tokens(
    file: IO[bytes],
    source: TextSource,
    chunks: Iterable[bytes],
    tokenizer: Tokenizer,
    dtype: np.dtype[Any],
) -> None:
    with naming(source):
        for ids in tokenizer.encode_stream(chunks):
            file.write(ids.astype(dtype, copy=False).data)
    if not file.tell():
        raise ValueError(f"{source.name} holds no text; give a file with text in it.")
