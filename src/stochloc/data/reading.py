"""Texts to be scored or corrected: one string, or its lines, from any kind of file.

Input files may be of the same kinds as for training: plain, compressed, pipes, or standard input. A
byte model also reads bytes that are not valid UTF-8; they are kept as Python's surrogate escapes.
"""

import re

from stochloc.data.codepoints import decode_utf8
from stochloc.data.normalisation import MARK
from stochloc.data.records.base import RecordSource
from stochloc.data.records.lines import line_records
from stochloc.data.records.sources import Reading
from stochloc.data.texts import naming
from stochloc.data.tokenizers.protocol import Tokenizer

_AS_TEXT = Reading()
_BREAK = re.compile("\r\n|\r|\n")


def read_text(file: str, tokenizer: Tokenizer, reading: Reading = _AS_TEXT) -> str:
    """Return the text of a file, without a byte order mark and without line breaks at its end.

    Args:
        file: a plain or compressed file of any format, a folder, a pipe, or `-` for standard input.
        tokenizer: of the model that is to read it.
        reading: which field of the file is the text.

    Returns:
        The text; for a byte model, bytes that are not valid UTF-8 as lone surrogates.

    Raises:
        ValueError: the file cannot be read, or it is not UTF-8 and the model is not a byte model.
    """
    source = reading.text(file)
    with naming(source):
        if tokenizer.is_byte_level:
            text = b"".join(source.chunks()).decode("utf-8", "surrogateescape")
        else:
            text = "".join(decode_utf8(source.chunks()))
    return text.removeprefix(MARK).rstrip("\r\n")


def read_lines(file: str, tokenizer: Tokenizer, reading: Reading = _AS_TEXT) -> list[str]:
    """Return the lines of a text, whichever line breaks it has, or the records of other formats.

    Args:
        file: a plain or compressed file of any format, a folder, a pipe, or `-` for standard input.
        tokenizer: of the model that is to read it.
        reading: which field of the file is the text.

    Returns:
        The lines without their line breaks; empty ones too, but none at the end.

    Raises:
        ValueError: the file cannot be read, or it is not UTF-8 and the model is not a byte model.
    """
    if reading.is_of_records(file):
        return [record.text for record in reading.records(file).records()]
    return _BREAK.split(read_text(file, tokenizer, reading))


def stream_lines(file: str, tokenizer: Tokenizer, reading: Reading = _AS_TEXT) -> RecordSource:
    """Return the lines that `read_lines` gives one by one, in memory that does not grow with them.

    Args:
        file: a plain or compressed file of any format, a folder, a pipe, or `-` for standard input.
        tokenizer: of the model that is to read it.
        reading: which field of the file is the text.

    Returns:
        The lines or records, named by their numbers.

    Raises:
        ValueError: the file cannot be read.
    """
    if reading.is_of_records(file):
        return reading.records(file)
    errors = "surrogateescape" if tokenizer.is_byte_level else "strict"
    return line_records(reading.text(file), errors)
