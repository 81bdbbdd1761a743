"""Texts, tokenizers, and synthetic sources with exact probabilities: the data of a model."""

from stochloc.data.codepoints import discover_alphabet
from stochloc.data.corpora import Corpus, load_corpus
from stochloc.data.ngrams import BitsPerToken, NgramModel
from stochloc.data.synthetic import Cyclic, HiddenMarkov, MarkovChain, Source
from stochloc.data.token_files import TokenFile, count_tokens, encode_file
from stochloc.data.tokenizers.bytes import ByteTokenizer
from stochloc.data.tokenizers.characters import CharacterTokenizer
from stochloc.data.tokenizers.labelled import LabelledTokenizer
from stochloc.data.tokenizers.named import make_tokenizer, tokenizer_from_dict
from stochloc.data.tokenizers.protocol import Tokenizer
from stochloc.data.tokenizers.slotted import SlottedTokenizer
from stochloc.data.tokenizers.text8 import Text8Tokenizer
from stochloc.data.windows import draw_windows, held_out_windows

__all__ = [
    "BitsPerToken",
    "ByteTokenizer",
    "CharacterTokenizer",
    "Corpus",
    "Cyclic",
    "HiddenMarkov",
    "LabelledTokenizer",
    "MarkovChain",
    "NgramModel",
    "SlottedTokenizer",
    "Source",
    "Text8Tokenizer",
    "TokenFile",
    "Tokenizer",
    "count_tokens",
    "discover_alphabet",
    "draw_windows",
    "encode_file",
    "held_out_windows",
    "load_corpus",
    "make_tokenizer",
    "tokenizer_from_dict",
]
