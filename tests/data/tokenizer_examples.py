"""The tokenizers that all tests of tokenizers run over, each with the texts that it accepts."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from stochloc.data import ByteTokenizer, CharacterTokenizer, Text8Tokenizer, Tokenizer
from stochloc.data.cleaning import SYMBOLS, clean
from stochloc.data.tokenizers.named import tokenizer_for
from stochloc.data.tokenizers.words import WordTokenizer

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


def one_space(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.split("\n"))


WORDS = WordTokenizer(("\n", "a", "bé", "f", "😀"))
SPACED = st.lists(st.sampled_from((*WORDS.words, " ", "\t", "  "))).map(
    # Words beside each other would be one.
    lambda parts: "".join(part if part.isspace() else f" {part} " for part in parts)
)
SUBWORDS = tokenizer_for("bpe:275", ["the cat, the hat; é€ é€ 😀😀\n\n  the end".encode()] * 3)

# A new tokenizer joins all tests by a line here, under its name in `TOKENIZERS` or `STORED`.
EXAMPLES: dict[str, Example] = {
    "characters": Example(
        CharacterTokenizer(LETTERS), st.text(LETTERS), lambda text: text, "a bé\n€f", "x\r#"
    ),
    "bytes": Example(ByteTokenizer(), ANY, lambda text: text, "a bé\n€f"),
    "text8": Example(Text8Tokenizer(), ANY, cleaned, "A, b7c  d!é"),
    "words": Example(WORDS, SPACED, one_space, "a  bé\tf\n😀 a\n"),
    "subwords": Example(SUBWORDS, ANY, lambda text: text, "the hat é€f\n 😀 "),
}
