"""The cleaning that made text8: 27 symbols, space and `a` to `z`.

Knows the symbols of text8 and how other characters are mapped to them, but nothing of files or
tokenizers.

References:
    Mahoney (2006), About the Test Data, http://mattmahoney.net/dc/textdata.html, appendix A.
"""

import numpy as np
from jaxtyping import UInt8

SYMBOLS = b" abcdefghijklmnopqrstuvwxyz"

_DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _symbol_table() -> bytes:
    table = bytearray(256)
    for symbol, letter in enumerate(SYMBOLS):
        table[letter] = table[ord(chr(letter).upper())] = symbol
    return bytes(table)


_TABLE = _symbol_table()


def clean(text: str, after_space: bool) -> UInt8[np.ndarray, " symbols"]:
    """Return the text8 symbols of a piece of text: space is 0, `a` to `z` are 1 to 26.

    Args:
        text: any characters; all but ASCII letters and digits become spaces.
        after_space: whether the symbol before this piece is a space; if so, the result does not
            begin with one.

    Returns:
        Symbols, shape (symbols,), no two spaces in a row.
    """
    raw = text.encode("utf-8", "replace")
    for digit, name in enumerate(_DIGIT_NAMES):
        raw = raw.replace(b"%d" % digit, f" {name} ".encode())
    symbols = np.frombuffer(raw.translate(_TABLE), dtype=np.uint8)
    spaces = symbols == 0
    repeated = spaces.copy()
    repeated[1:] &= spaces[:-1]
    repeated[:1] &= after_space
    return symbols[~repeated] if repeated.any() else symbols
