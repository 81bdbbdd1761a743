"""Text is rewritten in the form that a tokenizer knows, and every change is reported."""

import gzip
import io
import itertools
import os
import threading
import tracemalloc
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data import ByteTokenizer, CharacterTokenizer, load_corpus
from stochloc.data.normalisation import (
    BREAKS_NOTE,
    FORMS,
    MARK_NOTE,
    PlainBytes,
    in_form,
    normalise,
)
from stochloc.data.reading import read_lines, read_text
from stochloc.data.token_files import encode_file
from stochloc.data.tokenizers.parts import Characters
from stochloc.data.tokenizers.slotted import SlottedTokenizer

# Vowels and finals of Hangul, marks of several classes, a starter that composes with the one
# before, and one character that decomposes into marks alone.
COMPOSING = "ae\u0301\u0323\u0327\u1112\u1161\u11ab\ud55c\u09c7\u09be\u0f73\u0f71\u00e9\u1e69 \n"
LATIN = CharacterTokenizer("\n abcdef\u00e9")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STOCHLOC_CACHE", str(tmp_path / "cache"))


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", "\ufeff".encode(), b"\xef"])))
def test_breaks_and_marks_are_the_same_however_the_bytes_are_cut(pieces):
    raw = b"".join(pieces)
    expected = raw.removeprefix("\ufeff".encode()).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for chunks in (pieces, [raw], [raw[n : n + 1] for n in range(len(raw))]):
        plain = PlainBytes(chunks)
        assert b"".join(plain) == expected
        assert bool(plain.notes) == (expected != raw)


@given(st.text(st.sampled_from("ab\n\r\u00e9e\u0301\ufeff#"), max_size=12))
def test_places_and_unknown_characters_are_those_of_the_input(typed):
    seen = normalise(typed, LATIN)
    assert len(seen.places) == len(seen.text)
    assert list(seen.places) == sorted(seen.places)
    for n, (character, place) in enumerate(zip(seen.text, seen.places, strict=True)):
        assert (n in seen.unknown) == (character not in LATIN.alphabet)
        if n in seen.unknown or typed[place] in LATIN.alphabet:
            composed = unicodedata.normalize("NFC", typed[place : place + 2])
            assert character in (typed[place], composed)
    assert bool(seen.notes) == (seen.text != typed)


def test_each_unicode_form_is_read_as_the_one_that_the_tokenizer_knows():
    decomposed = CharacterTokenizer("abe\u0301")
    assert normalise("ae\u0301b", LATIN).text == "a\u00e9b"
    assert normalise("ae\u0301b", LATIN).places == (0, 1, 3)
    assert normalise("a\u00e9b", decomposed).text == "ae\u0301b"
    assert normalise("a\u00e9b", decomposed).places == (0, 1, 1, 2)
    assert "NFD" in normalise("a\u00e9b", decomposed).notes[0]
    korean = unicodedata.normalize("NFD", "\ud55c")
    assert normalise(korean, CharacterTokenizer("\ud55c")).text == "\ud55c"


def test_unknown_characters_are_reported_with_their_position_in_the_input():
    seen = normalise("\ufeffe\u0301 #x#", LATIN)
    with pytest.raises(ValueError, match=r"'#' at position 5, counted from 1, .* nor are 'x'"):
        seen.known_only()


@pytest.mark.parametrize("raw", [b"\xef\xbb\xbfab\r\ncd\r\n", b"ab\rcd\r", b"ab\ncd\n"])
def test_training_text_has_no_marks_and_one_kind_of_line_break(tmp_path, raw, capsys):
    (tmp_path / "text.txt").write_bytes(raw * 20 if raw[:1] == b"a" else raw)
    corpus = load_corpus(tmp_path / "text.txt", fractions=(1.0, 0.0, 0.0))
    assert corpus.tokenizer == CharacterTokenizer("\nabcd")
    assert corpus.tokenizer.decode(corpus.train[:6]) == "ab\ncd\n"
    said = capsys.readouterr().err
    assert (BREAKS_NOTE in said) == (b"\r" in raw)
    assert (MARK_NOTE in said) == (raw[:1] != b"a")
    # Once for each text, not for each reading.
    load_corpus(tmp_path / "text.txt")
    assert capsys.readouterr().err == ""


def test_a_tokenizer_that_knows_a_carriage_return_keeps_it(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"a\r\nb")
    for tokenizer in (ByteTokenizer(), CharacterTokenizer("\n\rab")):
        tokens = encode_file(tmp_path / "text.txt", tokenizer).tokens
        assert tokenizer.decode(tokens) == "a\r\nb"


class Dropping:
    """A tokenizer of a and b that drops CR and refuses everything else."""

    vocabulary_size, labels, boundary, slots = 2, (), None, None
    is_byte_level, parts = False, Characters()

    def encode(self, text):
        return CharacterTokenizer("ab").encode(text.replace("\r", ""))

    def decode(self, ids):
        return CharacterTokenizer("ab").decode(ids)

    def decode_bytes(self, ids):
        return self.decode(ids).encode()

    def encode_stream(self, chunks):
        yield from CharacterTokenizer("ab").encode_stream(c.replace(b"\r", b"") for c in chunks)

    def places(self, text):
        return np.flatnonzero(np.array([c != "\r" for c in text], dtype=bool))

    def to_dict(self):
        return {"kind": "dropping"}


def test_a_mark_is_left_out_for_a_tokenizer_that_reads_carriage_returns_itself(tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbfa\rb\r")
    encoded = encode_file(tmp_path / "text.txt", Dropping())
    assert Dropping().decode(encoded.tokens) == "ab"
    assert encoded.notes == (MARK_NOTE,)
    assert capsys.readouterr().err.count("byte order mark") == 1


def test_a_mark_that_the_alphabet_holds_is_kept_while_line_breaks_are_read_as_lf(tmp_path):
    (tmp_path / "text.txt").write_bytes("\ufeffa\r\nb".encode())
    tokenizer = CharacterTokenizer("\nab\ufeff")
    encoded = encode_file(tmp_path / "text.txt", tokenizer)
    assert tokenizer.decode(encoded.tokens) == "\ufeffa\nb"
    assert encoded.notes == (BREAKS_NOTE,)


@given(st.text(COMPOSING, max_size=30), st.lists(st.integers(0, 30), max_size=6))
def test_a_text_cut_anywhere_has_the_unicode_form_of_the_whole(text, cuts):
    ends = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(ends)]
    for form in FORMS:
        assert "".join(in_form(pieces, form)) == unicodedata.normalize(form, text)


@pytest.mark.parametrize("text", ["ae\u0301b", "\u4e2d\u6587", "\u1112\u1161\u11ab"])
def test_the_unicode_form_of_a_text_needs_no_more_memory_the_longer_it_is(text):
    piece = text * 3000

    def peak(num_pieces):
        tracemalloc.start()
        for _ in in_form((piece for _ in range(num_pieces)), "NFC"):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    peak(2)
    assert peak(64) < 1.1 * peak(4) + 4096


def test_a_text_in_the_other_unicode_form_is_encoded_and_said_so(tmp_path, capsys):
    (tmp_path / "nfd.txt").write_text("ae\u0301b" * 9)
    assert LATIN.decode(encode_file(tmp_path / "nfd.txt", LATIN).tokens) == "a\u00e9b" * 9
    assert "NFC form" in capsys.readouterr().err


def test_unknown_characters_of_a_file_are_counted_and_placed(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"ab\r\nab#c#x")
    with pytest.raises(
        ValueError,
        match=r"'#' at line 2, character 3 \(the first of 3 unknown ones: '#', 'x'\) is not among",
    ):
        encode_file(path, LATIN)
    path.write_text("ab\nab#c")
    with pytest.raises(ValueError, match="'#' at line 2, character 3 is not among"):
        encode_file(path, LATIN)


def given_as(kind, raw, tmp_path, monkeypatch):
    """The same bytes as every kind of input; returns what a user would write."""
    path = tmp_path / {"file": "text", "gz": "text.gz", "fifo": "fifo", "stdin": ""}[kind]
    if kind == "stdin":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
        return "-"
    if kind == "fifo":
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(raw,), daemon=True).start()
    else:
        path.write_bytes(gzip.compress(raw) if kind == "gz" else raw)
    return str(path)


@pytest.mark.parametrize("kind", ["file", "gz", "fifo", "stdin"])
def test_every_kind_of_input_gives_the_same_text(kind, tmp_path, monkeypatch):
    raw = "\ufeffab\r\n\nc\u00e9 d\re\n\r\n\n".encode()
    if kind == "fifo" and not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes here")
    lines = read_lines(given_as(kind, raw, tmp_path, monkeypatch), LATIN)
    assert lines == ["ab", "", "c\u00e9 d", "e"]


@pytest.mark.parametrize("kind", ["file", "gz", "fifo", "stdin"])
def test_a_corpus_can_come_from_every_kind_of_input(kind, tmp_path, monkeypatch):
    corpus = load_corpus(given_as(kind, b"abcdef" * 50, tmp_path, monkeypatch))
    assert corpus.tokenizer == CharacterTokenizer("abcdef")
    assert len(corpus.train) == 270


def test_bytes_that_are_not_utf8_are_returned_unchanged(tmp_path):
    (tmp_path / "text").write_bytes(b"caf\xe9 \xff\n")
    tokenizer = SlottedTokenizer(ByteTokenizer())
    text = read_text(str(tmp_path / "text"), tokenizer)
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == b"caf\xe9 \xff"
    with pytest.raises(ValueError, match=r"text cannot be encoded: .* not UTF-8 at byte 3"):
        read_text(str(tmp_path / "text"), LATIN)


def test_a_missing_text_is_distinguished_from_one_without_permission(tmp_path, monkeypatch):
    path = tmp_path / "text"
    with pytest.raises(ValueError, match="There is no file"):
        read_text(str(path), LATIN)
    path.write_text("abc")

    def denied(self, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    for name in ("open", "stat"):
        with monkeypatch.context() as patch:
            patch.setattr(type(path), name, denied)
            with pytest.raises(ValueError, match="cannot be read: you lack the permission"):
                read_text(str(path), LATIN)
    with pytest.raises(ValueError, match="is a device"):
        read_text(os.devnull, LATIN)
    assert read_text(str(tmp_path), LATIN) == "abc"  # a folder is its files
