"""Records encoded once and stored on disk: their tokens, and a hash of the text of each.

The tokens of a record are followed by a boundary, so that one flat array holds them all. The hash
is of the text as the file has it, whatever the tokenizer: by it sequences are split and duplicates
found. Both are cache entries like those of texts (`data.token_files`).

A held-out record that a tokenizer cannot encode, because it has a word that no training record has,
may be left out: then nothing stands before its boundary, and a note names it.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from stochloc.data.normalisation import normalise
from stochloc.data.records.base import Record, RecordSource
from stochloc.data.sequences import Sequences
from stochloc.data.texts import UnknownCharactersError
from stochloc.data.token_cache import write_atomically
from stochloc.data.token_files import stored
from stochloc.data.tokenizers.protocol import Tokenizer, token_dtype
from stochloc.data.tokenizers.unknown import MOST_SHOWN

_HASH = np.dtype(np.uint64)
# Records that are joined before they are written.
_AT_ONCE = 4096


def encode_records(
    source: RecordSource,
    tokenizer: Tokenizer,
    cache_dir: str | Path | None = None,
    needed: float = 1.0,
) -> Sequences:
    """Return the records of a source as sequences, encoded by the first call.

    Args:
        source: the records and the fingerprint that identifies them.
        tokenizer: turns the text of each into tokens; it has a boundary.
        cache_dir: the cache folder; None: `$STOCHLOC_CACHE`, or else `~/.cache/stochloc`.
        needed: the records whose hash, as a number in [0, 1), is below this are needed. Any other
            that the tokenizer cannot encode is left out, and a note to the user names it.

    Returns:
        The sequences in the order of their records.

    Raises:
        ValueError: there are no records, one is empty, or the tokenizer cannot encode one that is
            needed; the message names it.
        OSError: the tokens cannot be written; no partial file is left.
    """
    assert tokenizer.boundary is not None
    facts = {"records": dict(source.fingerprint), "version": 1}
    of_tokens = {**facts, "tokenizer": tokenizer.to_dict()}
    dtype = token_dtype(tokenizer.vocabulary_size)
    write = partial(_write_tokens, source, tokenizer)
    try:
        tokens = stored(source.name, of_tokens, dtype, partial(write, 1.0), cache_dir)
    except UnknownCharactersError:
        if needed >= 1:
            raise
        of_needed = {**of_tokens, "needed": needed}
        tokens = stored(source.name, of_needed, dtype, partial(write, needed), cache_dir)
    hashes = stored(source.name, facts, _HASH, partial(_write_hashes, source), cache_dir)
    every = Sequences.split_at(tokens.tokens, tokenizer.boundary, np.asarray(hashes.tokens))
    return every if every.lengths.all() else every.taken(every.lengths > 0)


def full_records(source: RecordSource) -> Iterator[Record]:
    """Yield the records of a source, of which none may be empty.

    Args:
        source: the records.

    Yields:
        The records, at least one.

    Raises:
        ValueError: there are none, or one is empty; the message names it.
    """
    is_empty = True
    for record in source.records():
        if not record.text:
            raise _empty(record)
        is_empty = False
        yield record
    if is_empty:
        raise ValueError(f"{source.name} holds no sequence; give a file with some in it.")


def record_hash(text: str) -> int:
    """Return the number by which a text is recognised: 64 bits of its BLAKE2b digest."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=_HASH.itemsize).digest(), "little")


def is_below(text: str, share: float) -> bool:
    """Return whether the hash of a text, as a number in [0, 1), is below a share."""
    return record_hash(text) / 2.0**64 < share


def _write_tokens(
    source: RecordSource, tokenizer: Tokenizer, needed: float, path: Path
) -> tuple[str, ...]:
    notes, dtype = dict[str, None](), token_dtype(tokenizer.vocabulary_size)
    end, left_out = np.array([tokenizer.boundary], dtype=dtype), list[str]()

    def ids_of(record: Record) -> np.ndarray:
        try:
            return _encode(record, tokenizer, notes).astype(dtype)
        except UnknownCharactersError:
            unknown = list(normalise(record.text, tokenizer).unknown.values())
            if not unknown or is_below(record.text, needed):
                raise
            left_out.append(f"{record.name} ({unknown[0]!r})")
            return end[:0]

    _write(path, chain.from_iterable((ids_of(record), end) for record in full_records(source)))
    if left_out:
        notes[_told(left_out, tokenizer)] = None
    return tuple(notes)


def _told(left_out: list[str], tokenizer: Tokenizer) -> str:
    shown, parts = ", ".join(left_out[:MOST_SHOWN]), tokenizer.parts
    more = ", ..." if len(left_out) > MOST_SHOWN else ""
    return (
        f"held-out sequences with a {parts.name} that is not in the {parts.known} are left out, "
        f"{len(left_out):,} in all: {shown}{more}"
    )


def _write_hashes(source: RecordSource, path: Path) -> tuple[str, ...]:
    hashes = (record_hash(record.text) for record in full_records(source))
    _write(path, (np.array([number], dtype=_HASH) for number in hashes))
    return ()


def _write(path: Path, pieces: Iterator[np.ndarray]) -> None:
    with write_atomically(path) as file:
        held: list[np.ndarray] = []
        for piece in pieces:
            held.append(piece)
            if len(held) == _AT_ONCE:
                file.write(np.concatenate(held).data)
                held.clear()
        if held:
            file.write(np.concatenate(held).data)


def _encode(record: Record, tokenizer: Tokenizer, notes: dict[str, None]) -> Int64[np.ndarray, "_"]:
    try:
        ids = tokenizer.encode(record.text)
    except UnknownCharactersError:
        text = normalise(record.text, tokenizer)
        try:
            ids = tokenizer.encode(text.known_only())
        except ValueError as error:
            raise UnknownCharactersError(f"{record.name} cannot be encoded: {error}") from error
        notes |= dict.fromkeys(text.notes)
    if not len(ids):
        raise _empty(record)
    return ids


def _empty(record: Record) -> ValueError:
    return ValueError(
        f"{record.name} is empty, but every sequence needs at least one token; leave it out."
    )
