"""The tokenizers that all tests of tokenizers run over, each with the texts that it accepts."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from stochloc.data import ByteTokenizer, CharacterTokenizer, Text8Tokenizer, Tokenizer
from stochloc.data.cleaning import SYMBOLS, clean

ANY = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("aZ09  \né€😀")))
LETTERS = "\n abcdefé€😀"


@dataclass(frozen=True)
class Example:
    """A tokenizer under test.

    Attributes:
        tokenizer: the tokenizer.
        texts: texts that it accepts, with all that it maps or drops.
        read: what a text is read as: what `decode` returns for its tokens.
        text: one text of a few characters, mapped or dropped ones among them, that it accepts.
        refused: characters that it refuses; "" if it accepts every text.
    """

    tokenizer: Tokenizer
    texts: st.SearchStrategy[str]
    read: Callable[[str], str]
    text: str
    refused: str = ""


def cleaned(text: str) -> str:
    return bytes(SYMBOLS[symbol] for symbol in clean(text, after_space=False)).decode()


# A new tokenizer joins all tests by a line here, under its name in `TOKENIZERS`.
EXAMPLES: dict[str, Example] = {
    "characters": Example(
        CharacterTokenizer(LETTERS), st.text(LETTERS), lambda text: text, "a bé\n€f", "x\r#"
    ),
    "bytes": Example(ByteTokenizer(), ANY, lambda text: text, "a bé\n€f"),
    "text8": Example(Text8Tokenizer(), ANY, cleaned, "A, b7c  d!é"),
}
