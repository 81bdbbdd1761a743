"""Subwords: learned the same every time, and a text is the sum of its tokens' bytes."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from stochloc.data import load_corpus, make_tokenizer
from stochloc.data.codepoints import count_characters
from stochloc.data.texts import UnknownCharactersError
from stochloc.data.tokenizers.named import (
    sequence_tokenizer_for,
    tokenizer_for,
    tokenizer_from_file,
)
from stochloc.data.tokenizers.pieces import pieces
from stochloc.data.tokenizers.subwords import SubwordTokenizer

TEXT = "the cat, the hat; é€ é€ 😀😀\n\n  the end" * 3
LEARNED = tokenizer_for("bpe:275", [TEXT.encode()])


def saved(tokenizer, path):
    tokenizer.save(str(path))
    return tokenizer_from_file(path)


def byte_pairs(vocabulary, merges=(), **settings):
    return tokenizers.Tokenizer(models.BPE(dict(vocabulary), list(merges), **settings))


@given(
    st.text(st.sampled_from("ab \n\té"), max_size=80),
    st.lists(st.integers(0, 80), max_size=6),
    st.integers(1, 8),
    st.integers(8, 20),
)
def test_pieces_are_a_function_of_the_text_and_within_their_limits(text, cuts, shortest, longest):
    ends = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in itertools.pairwise(ends)]
    found = list(pieces(chunks, shortest, longest))
    assert found == list(pieces([text], shortest, longest))
    assert "".join(found) == text
    assert all(shortest <= len(piece) <= longest for piece in found[:-1])
    for before, after in itertools.pairwise(found):
        between_words = not before[-1].isspace() and after[0].isspace()
        assert between_words or len(before) == longest


@given(st.text(st.sampled_from("the cat's hat 12 .\n😀é"), min_size=200, max_size=600))
def test_a_learned_tokenizer_cuts_a_text_in_pieces_as_the_package_cuts_it_whole(text):
    whole = tokenizers.Tokenizer.from_str(LEARNED.library).encode(text).ids
    parts = [LEARNED.encode(piece) for piece in pieces([text], 20, 400)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_another_process_learns_the_same_tokenizer_from_the_same_text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    program = (
        "from stochloc.data import make_tokenizer\n"
        "import hashlib\n"
        "tokenizer = make_tokenizer('bpe:275', 'text.txt')\n"
        "print(hashlib.sha256(tokenizer.library.encode()).hexdigest())"
    )
    command = [sys.executable, "-c", program]
    runs = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert make_tokenizer("bpe:275", tmp_path / "text.txt") == LEARNED


def test_a_vocabulary_has_the_size_asked_for_or_says_what_it_has(capsys):
    assert LEARNED.vocabulary_size == 275
    assert capsys.readouterr().err == ""
    small = tokenizer_for("bpe:5000", [b"abab abab"])
    assert 257 < small.vocabulary_size < 300
    assert f"bpe:5000 has {small.vocabulary_size} tokens only" in capsys.readouterr().err


def test_bytes_and_characters_of_windows_cut_within_characters_add_up_to_the_texts():
    ids = LEARNED.encode(TEXT)
    assert any(b"\xf0" in piece and b"\x80" not in piece for piece in LEARNED.pieces)
    for size in (1, 2, 5):
        raw = [LEARNED.decode_bytes(ids[n : n + size]) for n in range(0, len(ids), size)]
        assert b"".join(raw) == TEXT.encode()
        assert sum(map(count_characters, raw)) == len(TEXT)


def test_every_token_begins_in_the_character_it_comes_from():
    places = LEARNED.places(TEXT)
    raw = [LEARNED.decode_bytes([token]) for token in LEARNED.encode(TEXT).tolist()]
    begins = np.cumsum([0, *map(len, raw)])[:-1]
    owner = np.repeat(np.arange(len(TEXT)), [len(c.encode()) for c in TEXT])
    np.testing.assert_array_equal(places, owner[begins])


def test_a_text_has_the_same_tokens_wherever_it_begins(tmp_path):
    """SentencePiece puts a space before a text, others special tokens around it: not here."""
    vocabulary = {"▁": 0, "a": 1, "b": 2, "▁a": 3, "<s>": 4, "<0x0A>": 5, "<unk>": 6}
    library = byte_pairs(vocabulary, [("▁", "a")], byte_fallback=True, unk_token="<unk>")
    library.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Strip(" ", 1, 0)]
    )
    library.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 4)])
    tokenizer = saved(library, tmp_path / "pieces.json")
    assert tokenizer.encode("a ab\n").tolist() == [1, 3, 2, 5]
    assert tokenizer.encode(" a").tolist() == [3]
    assert tokenizer.decode([3, 1, 5, 0]) == " aa\n "


def test_a_byte_level_tokenizer_that_adds_a_space_or_draws_at_random_does_not_here(tmp_path):
    library = tokenizers.Tokenizer.from_str(LEARNED.library)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    library.model.dropout = 0.5
    tokenizer = saved(library, tmp_path / "random.json")
    for _ in range(5):
        np.testing.assert_array_equal(tokenizer.encode(TEXT), LEARNED.encode(TEXT))


def test_what_a_tokenizer_maps_is_read_as_mapped(tmp_path):
    library = tokenizers.Tokenizer.from_str(LEARNED.library)
    library.normalizer = normalizers.Lowercase()
    tokenizer = saved(library, tmp_path / "lower.json")
    assert tokenizer.decode(tokenizer.encode("The CAT")) == "the cat"


@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_a_character_that_no_token_spells_is_named_with_its_place(tmp_path, unknown):
    """With a token for whatever is unknown, and without: then the package drops it silently."""
    vocabulary = {"a": 0, "b": 1, " ": 2, "\n": 3, "ab": 4, "<unk>": 5}
    library = byte_pairs(vocabulary, [("a", "b")], unk_token=unknown)
    tokenizer = saved(library, tmp_path / "small.json")
    assert tokenizer.encode("ab a\n").tolist() == [4, 2, 0, 3]
    with pytest.raises(UnknownCharactersError, match="'q' at position 5, counted from 1, is not"):
        tokenizer.encode("ab aq")
    chunks = [b"ab\na", b"q b", b"z z"]
    with pytest.raises(
        UnknownCharactersError, match=r"'q' at line 2, character 2 .*of 3 unkn.*'z'"
    ):
        list(tokenizer.encode_stream(chunks))
    with pytest.raises(UnknownCharactersError, match="position 2"):
        tokenizer.encode("a\ud800")


@pytest.mark.parametrize(("setting", "reason"), [
    ("bpe:0", "from 257 tokens"), ("bpe:256", "from 257 tokens"), ("bpe:abc", "not 'bpe:abc'"),
    ("bpe:", "not 'bpe:'"), ("bpe:-5", "not 'bpe:-5'"), ("bpe:1000001", "to 1000000"),
    ("bpe:٣٠٠", "not 'bpe:"), ("words:5", "not 'words:5'"), ("bpe", "not 'bpe:'"),
    ("no.json", "no.json cannot be read"), ("subwords", "no tokenizer 'subwords'"),
])  # fmt: skip
def test_a_setting_that_names_no_tokenizer_is_refused(setting, reason):
    with pytest.raises(ValueError, match=reason):
        tokenizer_for(setting, [b"abc"])


@pytest.mark.parametrize(("content", "reason"), [
    ("nope", "not JSON"), ("{}", "not one of the package"), ("[]", "not one of the package"),
    ('{"kind": "characters"}', "no alphabet|described by"), ('{"kind": "x"}', "described by"),
    ("[" * 100_000, "not JSON"),
    ('{"version":"1.0","model":{"type":"BPE","vocab":{"a":5},"merges":[]}}', "not numbered"),
])  # fmt: skip
def test_a_file_that_is_no_tokenizer_is_refused_in_one_sentence(tmp_path, content, reason):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=reason):
        tokenizer_from_file(path)


def test_tokens_that_do_not_add_up_to_a_text_are_refused(tmp_path):
    library = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    library.decoder = decoders.WordPiece()
    with pytest.raises(ValueError, match=r"WordPiece.* joins tokens by rules of its own"):
        saved(library, tmp_path / "pieces.json")
    spaceless = byte_pairs({"a": 0, "b": 1})
    spaceless.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UnknownCharactersError, match="' ' at position 2"):
        saved(spaceless, tmp_path / "spaceless.json").encode("a b")


def test_the_tokenizer_of_a_run_is_read_from_its_file_without_what_is_around_it(tmp_path):
    facts = {"kind": "slotted", "inner": LEARNED.to_dict(), "rate": 0.1}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(facts))
    assert tokenizer_for(str(path), []) == LEARNED


def test_the_packages_own_json_is_kept_and_opens_with_the_package():
    library = tokenizers.Tokenizer.from_str(json.dumps(LEARNED.to_dict()["library"]))
    assert library.encode("the cat").ids == LEARNED.encode("the cat").tolist()


def test_sequences_are_learned_from_one_by_one():
    tokenizer = sequence_tokenizer_for("bpe:258", ["abab"] * 9)
    assert tokenizer.inner.pieces[256:] == (b"ab", b"abab")
    assert len(tokenizer.encode("abab")) == 1


def test_without_the_package_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"pip install 'stochloc\[tokenizers\]'"):
        tokenizer_for("bpe:300", [b"abc"])


def test_a_corpus_of_subwords_is_cached_and_decodes_to_its_text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    first, again = (
        load_corpus(tmp_path / "text.txt", "bpe:270", cache_dir=tmp_path) for _ in range(2)
    )
    assert isinstance(first.tokenizer, SubwordTokenizer)
    assert first.tokenizer == again.tokenizer
    assert first.fingerprint() == again.fingerprint()
    parts = np.concatenate([first.train, first.valid, first.test])
    assert first.tokenizer.decode(parts) == TEXT
    assert len(list(tmp_path.glob("*.tokens"))) == 1
