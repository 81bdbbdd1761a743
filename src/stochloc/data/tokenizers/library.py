"""Tokenizers of the package `tokenizers`, in its own JSON form: read, learned and understood.

A tokenizer there may do more than cut a text: add a space before it, drop spaces at its ends, wrap
it in special tokens, truncate it, draw at random. A language model of windows that begin anywhere
needs a text to be the sum of its tokens, so what depends on where a text begins is taken out
(`prepared`), and every token is a fixed string of bytes (`token_bytes`):

    byte-level (GPT-2 and its kin)    each character of a token stands for one byte
    SentencePiece (Llama and its kin)  "▁" stands for a space, <0x0A> for the byte 10
    none                               the token as it is written

The package is an extra: nothing here imports it before it is needed.
"""

import importlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

# Larger than those of the largest vocabularies in use, 256,000 tokens, of 20 MB.
MOST_BYTES = 24_000_000
MOST_TOKENS = 1_000_000
# Decoders by which a text is the sum of its tokens; others join them by rules of their own.
_SUMMING = {"ByteLevel", "Metaspace", "ByteFallback", "Replace", "Fuse", "Strip", "Sequence"}
_OF_BEGINNINGS = {"Prepend", "Strip"}


def package() -> Any:  # noqa: ANN401  (a module)
    """Return the package `tokenizers`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise ValueError(
            "Subwords need the package tokenizers; install it with: "
            "pip install 'stochloc[tokenizers]'"
        ) from error


def opened(text: str) -> "Library":
    """Return the tokenizer of a JSON text.

    Args:
        text: what `tokenizers` writes to a file.

    Returns:
        The tokenizer.

    Raises:
        ValueError: it is not one.
    """
    library = package()
    try:
        return library.Tokenizer.from_str(text)
    except Exception as error:  # The package raises no other class.
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"it is not one of the package tokenizers ({reason}).") from error


def prepared(text: str) -> str:
    """Return a tokenizer's JSON without what depends on where a text begins or ends, or on chance.

    Args:
        text: its JSON.

    Returns:
        The JSON of one that only maps characters and cuts, in the package's own spelling.

    Raises:
        ValueError: it is not a tokenizer, or one whose tokens do not add up to a text.
    """
    facts = json.loads(opened(text).to_str())
    joins = _kinds(facts["decoder"]) - _SUMMING
    if joins:
        raise ValueError(
            f"its decoder ({', '.join(sorted(joins))}) joins tokens by rules of its own, so that a "
            "text is not the sum of its tokens; use a byte-level tokenizer, as bpe:8000 learns one."
        )
    facts |= {"truncation": None, "padding": None, "post_processor": None}
    facts["normalizer"] = _anywhere(facts["normalizer"])
    facts["pre_tokenizer"] = _anywhere(facts["pre_tokenizer"])
    if "dropout" in facts["model"]:
        facts["model"]["dropout"] = None
    return opened(json.dumps(facts)).to_str()


def learned(texts: Iterable[str], size: int) -> str:
    """Return the JSON of a byte-level tokenizer learned from a text by byte pair encoding.

    Args:
        texts: the text in pieces that end between two words.
        size: tokens, the 256 bytes among them; fewer if the text does not have that many.

    Returns:
        The same JSON for the same text.

    References:
        Sennrich, Haddow and Birch (2016), Neural Machine Translation of Rare Words with Subword
        Units; Radford et al. (2019), Language Models are Unsupervised Multitask Learners, 2.2.
    """
    library = package()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    trainer = library.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def token_bytes(text: str) -> tuple[bytes, ...]:
    """Return the bytes that each token stands for.

    Args:
        text: the JSON of a prepared tokenizer.

    Returns:
        Bytes by token.

    Raises:
        ValueError: the ids are not 0, 1, 2, ..., each of one token, or too many.
    """
    vocabulary, facts = opened(text).get_vocab(with_added_tokens=True), json.loads(text)
    if len(vocabulary) > MOST_TOKENS or sorted(vocabulary.values()) != [*range(len(vocabulary))]:
        raise ValueError(
            f"its {len(vocabulary)} tokens are not numbered from 0, each once, or are more than "
            f"{MOST_TOKENS}."
        )
    literal = {token["content"] for token in facts["added_tokens"]}
    by_id = sorted(vocabulary, key=vocabulary.__getitem__)
    return tuple(t.encode() if t in literal else _bytes_of(t, facts["decoder"]) for t in by_id)


def spelled(text: str, decoder: dict[str, Any] | None) -> str:
    """Return a text with the characters that a decoder replaces, "▁" by a space, replaced.

    Args:
        text: a token, or a text mapped as the tokenizer maps it.
        decoder: the JSON of the decoder.
    """
    for part in _components(decoder):
        if part["type"] == "Metaspace":
            text = text.replace(part["replacement"], " ")
        elif part["type"] == "Replace" and "String" in part["pattern"]:
            text = text.replace(part["pattern"]["String"], part["content"])
    return text


def _bytes_of(token: str, decoder: dict[str, Any] | None) -> bytes:
    kinds = _kinds(decoder)
    if "ByteLevel" in kinds and all(character in _BYTES for character in token):
        return bytes(_BYTES[character] for character in token)
    if "ByteFallback" in kinds and len(token) == 6 and token[:3] == "<0x" and token[5] == ">":
        return bytes.fromhex(token[3:5])
    return spelled(token, decoder).encode()


def _byte_characters() -> dict[str, int]:
    """Return the byte that each character of a byte-level token stands for.

    The printable bytes of Latin-1 stand for themselves, the others are the characters from U+0100.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    shifted = {chr(0x100 + n): byte for n, byte in enumerate(others)}
    return {**{chr(byte): byte for byte in printable}, **shifted}


_BYTES = _byte_characters()


def _components(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield a component and those it is a sequence of."""
    if part is None:
        return
    yield part
    for inner in _inner(part):
        yield from _components(inner)


def _inner(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the components that a sequence lists, under a name that differs by its kind."""
    return next((value for value in part.values() if isinstance(value, list)), [])


def _kinds(part: dict[str, Any] | None) -> set[str]:
    return {inner["type"] for inner in _components(part)}


def _anywhere(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a component that does the same wherever a text begins, None if nothing is left."""
    if part is None or part["type"] in _OF_BEGINNINGS:
        return None
    if part["type"] == "ByteLevel":
        return {**part, "add_prefix_space": False} if "add_prefix_space" in part else part
    if part["type"] == "Metaspace":
        return {**part, "prepend_scheme": "never"}
    if part["type"] != "Sequence":
        return part
    name = next(key for key, value in part.items() if isinstance(value, list))
    return {**part, name: [kept for inner in part[name] if (kept := _anywhere(inner))]}
