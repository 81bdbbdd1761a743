"""Corpora: encoded once, split without loss, found by name, refused in one sentence."""

import bz2
import errno
import gzip
import hashlib
import json
import lzma
import os
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data import builtin, text8
from stochloc.data.corpora import Corpus, load_corpus, split
from stochloc.data.texts import TextSource, file_source
from stochloc.data.token_cache import write_atomically
from stochloc.data.token_files import encode_file, encode_source
from stochloc.data.tokenizers.bytes import ByteTokenizer
from stochloc.data.tokenizers.characters import CharacterTokenizer
from stochloc.data.tokenizers.text8 import Text8Tokenizer

TEXT = "the quick brown fox jumps over the lazy dog " * 50


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("STOCHLOC_CACHE", str(folder))
    return folder


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def text_of(corpus: Corpus):
    return "".join(map(corpus.tokenizer.decode, (corpus.train, corpus.valid, corpus.test)))


def test_the_tokens_of_a_file_are_those_of_its_text(text_file):
    found = encode_file(text_file, Text8Tokenizer())
    np.testing.assert_array_equal(found.tokens, Text8Tokenizer().encode(TEXT))
    assert len(found) == len(TEXT)
    assert not found.tokens.flags.writeable
    assert isinstance(found.tokens, np.memmap)


def test_a_second_call_maps_the_tokens_made_by_the_first(text_file):
    first = encode_file(text_file, ByteTokenizer())
    made = first.path.stat().st_mtime_ns
    assert encode_file(text_file, ByteTokenizer()) == first
    assert first.path.stat().st_mtime_ns == made


def test_a_changed_file_or_another_tokenizer_has_tokens_of_its_own(text_file):
    paths = {encode_file(text_file, ByteTokenizer()).path}
    paths.add(encode_file(text_file, Text8Tokenizer()).path)
    text_file.write_text("another text")
    changed = encode_file(text_file, ByteTokenizer())
    assert ByteTokenizer().decode(changed.tokens) == "another text"
    assert len(paths | {changed.path}) == 3


def test_a_text_is_identified_by_its_bytes_not_by_its_name_size_and_date(tmp_path):
    path = tmp_path / "d.txt"
    for text in ("aab" * 2000, "aba" * 2000):
        path.write_text(text)
        os.utime(path, (0, 0))
        assert text_of(load_corpus(path)) == text
    path.rename(tmp_path / "moved.txt")
    assert encode_file(tmp_path / "moved.txt", CharacterTokenizer("ab")).path.exists()


def test_a_text_under_two_names_is_encoded_once(tmp_path, text_file, cache):
    (tmp_path / "copy.txt").write_text(TEXT)
    paths = {encode_file(path, ByteTokenizer()).path for path in (text_file, tmp_path / "copy.txt")}
    assert len(paths) == 1
    assert len(list(cache.glob("*.tokens"))) == 1


def test_a_text_that_changes_while_it_is_encoded_is_refused(text_file, cache):
    source = file_source(text_file)
    text_file.write_text(TEXT.upper())
    with pytest.raises(ValueError, match="changed while it was read; try again"):
        encode_source(source, ByteTokenizer())
    assert list(cache.iterdir()) == []


def test_the_cache_stays_below_its_size_and_loses_what_was_used_longest_ago(
    tmp_path, cache, monkeypatch
):
    def encoded(letter):
        path = tmp_path / letter
        path.write_text(letter * 1000)
        return encode_file(path, ByteTokenizer())

    first, second = encoded("a"), encoded("b")
    for age, found in enumerate((second, first)):
        for suffix in (".tokens", ".json"):
            os.utime(found.path.with_suffix(suffix), (age, age))
    mapped = encoded("b")
    monkeypatch.setenv("STOCHLOC_CACHE_BYTES", "2500")
    third = encoded("c")
    names = {path.stem for path in cache.iterdir()}
    assert names == {second.path.stem, third.path.stem}
    monkeypatch.setenv("STOCHLOC_CACHE_BYTES", "0")
    encoded("d")
    assert len(list(cache.iterdir())) == 2
    # What is mapped stays readable, whoever has removed its name.
    assert mapped.tokens.sum() == 1000 * ord("b")
    monkeypatch.setenv("STOCHLOC_CACHE_BYTES", "much")
    with pytest.raises(
        ValueError, match="STOCHLOC_CACHE_BYTES must be a number of bytes, not 'much'"
    ):
        encoded("e")


def test_what_a_killed_writer_left_is_swept_but_not_what_is_being_written(text_file, cache):
    cache.mkdir()
    with write_atomically(cache / "live.tokens") as file:
        (left,) = cache.iterdir()
        dead = cache / "dead.tokens.abcdefgh.partial"
        dead.write_bytes(b"half")
        for path in (left, dead):
            os.utime(path, (0, 0))
        os.utime(left, (time.time() - 60,) * 2)
        encode_file(text_file, ByteTokenizer())
        assert left.exists()
        assert not dead.exists()
        file.write(b"whole")
    assert (cache / "live.tokens").read_bytes() == b"whole"
    assert not list(cache.glob("*.partial"))


def test_without_a_home_the_cache_is_where_xdg_says_or_this_users_own_temporary_folder(
    tmp_path, text_file, monkeypatch
):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("STOCHLOC_CACHE")
    monkeypatch.delenv("STOCHLOC_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert encode_file(text_file, ByteTokenizer()).path.parent == tmp_path / "xdg" / "stochloc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = encode_file(text_file, ByteTokenizer()).path.parent
    assert folder == tmp_path / f"stochloc-{os.getuid()}"
    assert folder.stat().st_mode & 0o077 == 0
    someone = folder.stat().st_uid + 1
    monkeypatch.setattr("os.getuid", lambda: someone)
    folder.rename(tmp_path / f"stochloc-{os.getuid()}")
    with pytest.raises(ValueError, match="belongs to someone else; set STOCHLOC_CACHE"):
        encode_file(text_file, ByteTokenizer())


@pytest.mark.parametrize("damage", ["truncated", "emptied", "facts lost", "facts corrupted"])
def test_a_damaged_cache_entry_is_made_anew(text_file, damage):
    found = encode_file(text_file, ByteTokenizer())
    facts = found.path.with_suffix(".json")
    {
        "truncated": lambda: found.path.write_bytes(found.path.read_bytes()[:-1]),
        "emptied": lambda: found.path.write_bytes(b""),
        "facts lost": facts.unlink,
        "facts corrupted": lambda: facts.write_text('{"dtype": "uint'),
    }[damage]()
    again = encode_file(text_file, ByteTokenizer())
    assert ByteTokenizer().decode(again.tokens) == TEXT
    assert json.loads(facts.read_text())["num_tokens"] == len(TEXT)


def test_a_full_disk_leaves_nothing_half_written(cache):
    def chunks():
        yield b"some text"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        encode_source(TextSource("text", {"text": 1}, chunks), ByteTokenizer())
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip"])
def test_compressed_texts_are_read_as_what_they_hold(tmp_path, suffix):
    path = tmp_path / f"text.txt{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("text.txt", TEXT)
    else:
        compress = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[suffix]
        path.write_bytes(compress(TEXT.encode()))
    assert text_of(load_corpus(path)) == TEXT


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip"])
def test_files_that_cannot_be_unpacked_are_refused(tmp_path, cache, suffix):
    path = tmp_path / f"text{suffix}"
    path.write_bytes(b"this is not compressed at all")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} cannot be read"):
        encode_file(path, ByteTokenizer())
    assert list(cache.iterdir()) == []


def test_an_archive_of_two_texts_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a", "a")
        archive.writestr("b", "b")
    with pytest.raises(ValueError, match="holds 2 files where one is expected"):
        load_corpus(tmp_path / "two.zip")


def test_missing_and_empty_files_are_refused_in_folders_too(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "hollow.gz").write_bytes(gzip.compress(b""))
    for name, message in {
        "missing": "There is no file",
        "empty": "is empty",
        ".": "is empty",
        "hollow.gz": "holds no text",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_corpus(tmp_path / name, "bytes")


def test_a_cache_folder_that_is_a_file_is_refused(text_file):
    with pytest.raises(ValueError, match="set STOCHLOC_CACHE"):
        encode_file(text_file, ByteTokenizer(), cache_dir=text_file)


def test_what_cannot_be_encoded_is_named_with_its_file(tmp_path, text_file, cache):
    other = tmp_path / "valid.txt"
    other.write_text("the fée")
    with pytest.raises(ValueError, match=r"valid\.txt cannot be encoded: The character 'é' at"):
        load_corpus(text_file, load_corpus(text_file).tokenizer, valid=other)
    other.write_bytes(b"caf\xe9 noir")
    with pytest.raises(ValueError, match=r"valid\.txt cannot be encoded: .* not UTF-8 at byte 3"):
        load_corpus(other)
    assert not list(cache.glob("*.partial"))


@given(st.integers(0, 2000), st.integers(0, 100), st.integers(0, 100))
def test_the_parts_of_a_split_are_the_whole_in_order(num_tokens, train, valid):
    total = train + valid + 7
    fractions = (train / total, valid / total, 7 / total)
    parts = split(np.arange(num_tokens), fractions)
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(num_tokens))
    for part, share in zip(parts, fractions, strict=True):
        assert abs(len(part) - share * num_tokens) <= 1


def test_text8_is_split_90_5_5_million():
    whole = np.broadcast_to(np.uint8(0), 100_000_000)
    sizes = [len(part) for part in split(whole, (0.9, 0.05, 0.05))]
    assert sizes == [90_000_000, 5_000_000, 5_000_000]


def test_parts_given_as_files_are_not_cut_from_the_text(tmp_path, text_file):
    held_out = tmp_path / "held_out.txt"
    held_out.write_text("the lazy fox")
    both = load_corpus(text_file, valid=held_out, test=held_out)
    assert both.tokenizer.decode(both.train) == TEXT
    assert both.tokenizer.decode(both.valid) == both.tokenizer.decode(both.test) == "the lazy fox"
    one = load_corpus(text_file, valid=held_out)
    assert one.tokenizer.decode(np.concatenate([one.train, one.test])) == TEXT
    assert len(one.test) == round(0.05 * len(TEXT))


@pytest.mark.parametrize(
    "fractions", [(0.0, 0.5, 0.5), (0.9, 0.2, 0.1), (1.2, -0.1, -0.1), (0.5, 0.1, 0.1)]
)
def test_invalid_fractions_are_refused(text_file, fractions):
    with pytest.raises(ValueError, match="let them sum to 1"):
        load_corpus(text_file, fractions=fractions)


def test_a_text_too_short_to_train_on_is_refused(tmp_path):
    (tmp_path / "one").write_text("x")
    with pytest.raises(ValueError, match="too short to split"):
        load_corpus(tmp_path / "one", fractions=(0.2, 0.4, 0.4))


def test_files_are_characters_unless_said_otherwise(text_file):
    assert load_corpus(text_file).tokenizer == CharacterTokenizer("".join(sorted(set(TEXT))))
    assert load_corpus(text_file, "bytes").tokenizer == ByteTokenizer()
    assert load_corpus(text_file, Text8Tokenizer()).tokenizer == Text8Tokenizer()


def test_the_built_in_corpus_is_the_king_james_bible():
    corpus = load_corpus("builtin")
    text = corpus.tokenizer.decode(corpus.train[:54])
    assert text == "in the beginning god created the heaven and the earth "
    assert corpus.name == "builtin"
    assert len(corpus.train) > 3_500_000


def test_the_built_in_text_is_small_whole_and_the_one_its_fingerprint_names(monkeypatch):
    assert builtin.FILE.stat().st_size < 1_000_000, "it is part of every wheel"
    whole = b"".join(builtin.builtin_source().chunks())
    assert hashlib.sha256(whole).hexdigest() == builtin.SHA256
    assert whole.endswith(b"The grace of our Lord Jesus Christ be with you all. Amen.")
    monkeypatch.setattr(builtin, "_CHUNK_BYTES", 12_345)
    pieces = list(builtin.builtin_source().chunks())
    assert len(pieces) > 300
    assert b"".join(pieces) == whole


@pytest.fixture
def tiny_text8(tmp_path, monkeypatch):
    """A small stand-in for text8 on a server that is a folder."""
    server = tmp_path / "server" / "text8.zip"
    server.parent.mkdir()
    with zipfile.ZipFile(server, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text8", TEXT)
    monkeypatch.setenv("STOCHLOC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(text8, "URL", server.as_uri())
    monkeypatch.setattr(text8, "ZIP_BYTES", server.stat().st_size)
    monkeypatch.setattr(text8, "ZIP_SHA256", hashlib.sha256(server.read_bytes()).hexdigest())
    monkeypatch.setattr(text8, "TEXT_BYTES", len(TEXT))
    monkeypatch.setattr(text8, "TEXT_SHA256", hashlib.sha256(TEXT.encode()).hexdigest())
    return server


def test_text8_is_downloaded_once(tiny_text8):
    assert text_of(load_corpus("text8")) == TEXT
    tiny_text8.unlink()
    assert text_of(load_corpus("text8", "bytes")) == TEXT
    assert os.listdir(os.environ["STOCHLOC_DATA"]) == ["text8.zip"]


@pytest.mark.parametrize("folder", ["data", "home/.cache/stochloc/corpora"])
def test_text8_is_found_where_the_user_put_it(tmp_path, tiny_text8, folder):
    tiny_text8.unlink()
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "text8").write_text(TEXT)
    assert text_of(load_corpus("text8")) == TEXT


def test_without_network_the_message_says_which_file_goes_where(tmp_path, tiny_text8):
    tiny_text8.unlink()
    with pytest.raises(ValueError, match=rf"put the file text8\.zip.* folder {tmp_path}/data\.$"):
        load_corpus("text8")
    assert os.listdir(tmp_path / "data") == []


def test_a_data_folder_that_cannot_be_made_is_refused(text_file, tiny_text8, monkeypatch):
    monkeypatch.setenv("STOCHLOC_DATA", str(text_file))
    with pytest.raises(ValueError, match="set STOCHLOC_DATA to a folder"):
        load_corpus("text8")


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + b"?"])
def test_a_damaged_download_is_refused_and_not_kept(tmp_path, tiny_text8, damage):
    tiny_text8.write_bytes(damage(tiny_text8.read_bytes()))
    with pytest.raises(ValueError, match=r"is not text8\.zip"):
        load_corpus("text8")
    assert os.listdir(tmp_path / "data") == []


@pytest.mark.parametrize("text", [TEXT[:-1], TEXT[:-1] + "x"])
def test_a_file_that_is_not_text8_is_refused(tmp_path, cache, tiny_text8, text):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text8").write_text(text)
    with pytest.raises(ValueError, match="is not text8: "):
        load_corpus("text8")
    assert list(cache.iterdir()) == []


def test_a_file_named_like_a_corpus_wins_in_its_own_folder(tmp_path, tiny_text8, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text8").mkdir()
    assert load_corpus("text8").source == "text8"
    Path("text8").rmdir()
    Path("text8").write_text("my own text")
    assert text_of(load_corpus("text8")) == text_of(load_corpus("./text8")) == "my own text"
