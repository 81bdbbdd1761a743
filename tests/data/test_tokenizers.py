"""Tokenizers: exact round trips, streams equal to wholes, memory that does not grow."""

import json
import re
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data.codepoints import discover_alphabet
from stochloc.data.tokenizers.bytes import ByteTokenizer
from stochloc.data.tokenizers.characters import CharacterTokenizer
from stochloc.data.tokenizers.named import make_tokenizer, tokenizer_from_dict
from stochloc.data.tokenizers.protocol import token_dtype
from stochloc.data.tokenizers.text8 import Text8Tokenizer

CLEAN = st.from_regex(r" ?([a-z]+ )*([a-z]+)?", fullmatch=True)
CUTS = st.lists(st.integers(0, 200), max_size=8)
MESSY = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("aZ09  \né€😀")))


def tokenizers_for(text):
    alphabet = discover_alphabet([text.encode()]) or "a"
    return [CharacterTokenizer(alphabet), ByteTokenizer(), Text8Tokenizer()]


def cut(data, cuts):
    ends = sorted({min(place, len(data)) for place in cuts})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def joined(pieces):
    return np.concatenate([np.zeros(0, dtype=np.int64), *pieces])


def mahoneys_cleaning(text):
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    lowered = "".join(c.lower() if "A" <= c <= "Z" else c for c in text)
    spelled = re.sub("[0-9]", lambda digit: f" {words[int(digit[0])]} ", lowered)
    return re.sub("[^a-z]+", " ", spelled)


@given(MESSY, CUTS)
def test_a_stream_cut_anywhere_encodes_like_the_whole(text, cuts):
    for tokenizer in tokenizers_for(text):
        stream = joined(tokenizer.encode_stream(cut(text.encode(), cuts)))
        np.testing.assert_array_equal(stream, tokenizer.encode(text))


@given(MESSY)
def test_decoding_undoes_encoding(text):
    characters, as_bytes, *_ = tokenizers_for(text)
    assert characters.decode(characters.encode(text)) == text
    assert as_bytes.decode(as_bytes.encode(text)) == text


@given(MESSY)
def test_text8_cleaning_is_mahoneys_script(text):
    tokenizer = Text8Tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == mahoneys_cleaning(text)


@given(MESSY)
def test_text8_cleaning_is_idempotent(text):
    tokenizer = Text8Tokenizer()
    once = tokenizer.decode(tokenizer.encode(text))
    assert tokenizer.decode(tokenizer.encode(once)) == once


@given(CLEAN)
def test_clean_text_maps_to_itself(text):
    tokenizer = Text8Tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_text8_numbers_space_zero_and_letters_from_one():
    assert Text8Tokenizer().encode(" az").tolist() == [0, 1, 26]


@given(MESSY, CUTS)
def test_the_alphabet_is_the_sorted_set_of_characters(text, cuts):
    assert discover_alphabet(cut(text.encode(), cuts)) == "".join(sorted(set(text)))


@given(MESSY)
def test_a_tokenizer_survives_json(text):
    for tokenizer in tokenizers_for(text):
        facts = json.loads(json.dumps(tokenizer.to_dict()))
        assert tokenizer_from_dict(facts) == tokenizer


def test_ids_can_be_lists_arrays_or_tensors():
    for tokenizer in tokenizers_for("abc"):
        ids = tokenizer.encode("abc")
        for given_ids in (ids, ids.tolist(), tuple(ids.tolist()), torch.from_numpy(ids)):
            assert tokenizer.decode(given_ids) == "abc"
        assert tokenizer.decode([]) == ""


def test_an_alphabet_beyond_256_characters_needs_two_bytes_per_id():
    alphabet = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    tokenizer = CharacterTokenizer(alphabet)
    (ids, *_) = tokenizer.encode_stream([alphabet.encode()])
    assert ids.dtype == token_dtype(300) == np.uint16
    assert ids.tolist() == list(range(300))


@given(st.integers(0, 40))
def test_an_unknown_character_is_named_with_its_place(place):
    text = "ab" * 20
    text = text[:place] + "é" + text[place:]
    tokenizer = CharacterTokenizer("ab")
    message = re.escape(f"character 'é' at position {place}, counted from 0, ")
    with pytest.raises(ValueError, match=message):
        tokenizer.encode(text)
    message = re.escape(f"character 'é' at line 1, character {place + 1} is not among")
    with pytest.raises(ValueError, match=message):
        list(tokenizer.encode_stream(cut(text.encode(), [3, 17, 30])))


@given(st.text("aé€", max_size=30), CUTS)
def test_bytes_that_are_not_utf8_are_located(text, cuts):
    chunks = cut(text.encode() + b"\xff" + b"abc", cuts)
    for encode in (Text8Tokenizer().encode_stream, lambda c: [discover_alphabet(c)]):
        with pytest.raises(ValueError, match=f"not UTF-8 at byte {len(text.encode())} "):
            list(encode(chunks))


def test_any_bytes_are_tokens_of_the_byte_tokenizer():
    data = bytes(range(256))
    assert joined(ByteTokenizer().encode_stream([data])).tolist() == list(data)


@pytest.mark.parametrize("ids", [[-1], [0, 27], [300]])
def test_ids_outside_the_vocabulary_cannot_be_decoded(ids):
    with pytest.raises(ValueError, match=r"must lie in 0 \.\. 26"):
        Text8Tokenizer().decode(ids)


@pytest.mark.parametrize("alphabet", ["", "aba"])
def test_an_alphabet_is_not_empty_and_repeats_nothing(alphabet):
    with pytest.raises(ValueError, match="alphabet"):
        CharacterTokenizer(alphabet)


def test_tokenizers_are_made_by_name(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("banana")
    assert make_tokenizer("characters", path) == CharacterTokenizer("abn")
    assert make_tokenizer("bytes", path) == ByteTokenizer()
    assert make_tokenizer("text8", path) == Text8Tokenizer()
    with pytest.raises(ValueError, match="there are characters, bytes, text8"):
        make_tokenizer("words", path)


def test_facts_of_no_tokenizer_are_refused():
    with pytest.raises(ValueError, match="known kinds"):
        tokenizer_from_dict({"kind": "words"})


@pytest.mark.parametrize(
    "tokenizer", tokenizers_for("The 7 seas. é"), ids=lambda t: type(t).__name__
)
def test_memory_does_not_grow_with_the_text(tokenizer):
    chunk = "The 7 seas. é".encode() * 2000

    def peak(num_chunks):
        tracemalloc.start()
        for _ in tokenizer.encode_stream(chunk for _ in range(num_chunks)):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    peak(2)
    assert peak(64) < 1.1 * peak(4) + 4096
