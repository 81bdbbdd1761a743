"""Records encoded once and stored on disk: their tokens, and a hash of the text of each.

The tokens of a record are followed by a boundary, so that one flat array holds them all. The hash
is of the text as the file has it, whatever the tokenizer: by it sequences are split and duplicates
found. Both are cache entries like those of texts (`data.token_files`).
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

_HASH = np.dtype(np.uint64)
# Records that are joined before they are written.
_AT_ONCE = 4096


def encode_records(
    source: RecordSource, tokenizer: Tokenizer, cache_dir: str | Path | None = None
) -> Sequences:
    """Return the records of a source as sequences, encoded by the first call.

    Args:
        source: the records and the fingerprint that identifies them.
        tokenizer: turns the text of each into tokens; it has a boundary.
        cache_dir: the cache folder; None: `$STOCHLOC_CACHE`, or else `~/.cache/stochloc`.

    Returns:
        The sequences in the order of their records.

    Raises:
        ValueError: there are no records, one is empty, or the tokenizer cannot encode one; the
            message names it.
        OSError: the tokens cannot be written; no partial file is left.
    """
    assert tokenizer.boundary is not None
    facts = {"records": dict(source.fingerprint), "version": 1}
    of_tokens = {**facts, "tokenizer": tokenizer.to_dict()}
    dtype = token_dtype(tokenizer.vocabulary_size)
    tokens = stored(
        source.name, of_tokens, dtype, partial(_write_tokens, source, tokenizer), cache_dir
    )
    hashes = stored(source.name, facts, _HASH, partial(_write_hashes, source), cache_dir)
    return Sequences.split_at(tokens.tokens, tokenizer.boundary, np.asarray(hashes.tokens))


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


def _write_tokens(source: RecordSource, tokenizer: Tokenizer, path: Path) -> tuple[str, ...]:
    notes, dtype = dict[str, None](), token_dtype(tokenizer.vocabulary_size)
    end = np.array([tokenizer.boundary], dtype=dtype)
    encoded = (_encode(record, tokenizer, notes).astype(dtype) for record in full_records(source))
    _write(path, chain.from_iterable((ids, end) for ids in encoded))
    return tuple(notes)


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
