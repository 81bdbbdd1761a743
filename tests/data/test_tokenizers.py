"""Tokenizers: exact round trips, streams equal to wholes, memory that does not grow."""

import json
import re
import tracemalloc

import numpy as np
import pytest
import torch
from data.tokenizer_examples import ANY, EXAMPLES
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data.codepoints import count_characters, discover_alphabet
from stochloc.data.texts import UnknownCharactersError
from stochloc.data.tokenizers.bytes import ByteTokenizer
from stochloc.data.tokenizers.characters import CharacterTokenizer
from stochloc.data.tokenizers.labelled import LabelledTokenizer
from stochloc.data.tokenizers.named import (
    AROUND,
    LEARNED,
    STORED,
    TOKENIZERS,
    make_tokenizer,
    sequence_tokenizer_for,
    tokenizer_from_dict,
)
from stochloc.data.tokenizers.protocol import token_dtype
from stochloc.data.tokenizers.sequences import SequenceTokenizer
from stochloc.data.tokenizers.slotted import SlottedTokenizer
from stochloc.data.tokenizers.text8 import Text8Tokenizer

CLEAN = st.from_regex(r" ?([a-z]+ )*([a-z]+)?", fullmatch=True)
CUTS = st.lists(st.integers(0, 200), max_size=8)
MESSY = ANY
NAMED = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
REFUSING = {name: example for name, example in EXAMPLES.items() if example.refused}


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


def test_every_tokenizer_that_has_a_name_is_tested():
    assert set(EXAMPLES) == set(TOKENIZERS) | set(STORED), (
        "one line for each in tests/data/tokenizer_examples.py"
    )
    for name, example in EXAMPLES.items():
        assert example.tokenizer.to_dict()["kind"] == name


@NAMED
@given(data=st.data(), cuts=CUTS)
def test_a_stream_cut_anywhere_encodes_like_the_whole(example, data, cuts):
    text, tokenizer = data.draw(example.texts), example.tokenizer
    ids = tokenizer.encode(text)
    stream = joined(tokenizer.encode_stream(cut(text.encode(), cuts)))
    np.testing.assert_array_equal(stream, ids)
    assert ids.size == 0 or 0 <= ids.min() <= ids.max() < tokenizer.vocabulary_size


@NAMED
@given(data=st.data())
def test_decoding_gives_the_text_as_it_was_read_and_that_is_read_as_it_stands(example, data):
    text, tokenizer = data.draw(example.texts), example.tokenizer
    ids = tokenizer.encode(text)
    decoded = tokenizer.decode(ids)
    assert decoded == example.read(text)
    np.testing.assert_array_equal(tokenizer.encode(decoded), ids)
    raw = tokenizer.decode_bytes(ids)
    assert raw.decode() == decoded
    assert count_characters(raw) == len(decoded)


@pytest.mark.parametrize("example", REFUSING.values(), ids=REFUSING)
@given(data=st.data(), cuts=CUTS)
def test_a_refused_character_is_named_with_its_position_or_its_line(example, data, cuts):
    text, refused = data.draw(example.texts), data.draw(st.sampled_from(example.refused))
    place = data.draw(st.integers(0, len(text)))
    whole, lines = text[:place] + refused + text[place:], text[:place].split("\n")
    expected = re.escape(f"character {refused!r} at position {place + 1}, counted from 1, ")
    with pytest.raises(UnknownCharactersError, match=expected):
        example.tokenizer.encode(whole)
    where = f"character {refused!r} at line {len(lines)}, character {len(lines[-1]) + 1} "
    with pytest.raises(UnknownCharactersError, match=re.escape(where)):
        list(example.tokenizer.encode_stream(cut(whole.encode(), cuts)))


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


@NAMED
def test_a_tokenizer_survives_json_alone_and_within_others(example):
    for tokenizer in (
        example.tokenizer,
        SlottedTokenizer(example.tokenizer, 0.3),
        LabelledTokenizer(example.tokenizer, ("old", "new")),
        LabelledTokenizer(SlottedTokenizer(example.tokenizer), ("old", "new")),
        SequenceTokenizer(example.tokenizer),
        LabelledTokenizer(SequenceTokenizer(example.tokenizer), ("old", "new")),
    ):
        facts = json.loads(json.dumps(tokenizer.to_dict()))
        assert tokenizer_from_dict(facts) == tokenizer


@NAMED
def test_ids_can_be_lists_arrays_or_tensors(example):
    tokenizer, ids = example.tokenizer, example.tokenizer.encode(example.text)
    for given_ids in (ids, ids.tolist(), tuple(ids.tolist()), torch.from_numpy(ids)):
        assert tokenizer.decode(given_ids) == example.read(example.text)
    assert tokenizer.decode([]) == ""
    with pytest.raises(ValueError, match=f"must lie in 0 .. {tokenizer.vocabulary_size - 1}"):
        tokenizer.decode([tokenizer.vocabulary_size])


@NAMED
def test_every_token_knows_the_character_it_comes_from(example):
    text = example.text
    around = (SlottedTokenizer(example.tokenizer), SequenceTokenizer(example.tokenizer))
    for tokenizer in (example.tokenizer, *around):
        places = tokenizer.places(text)
        assert len(places) == len(tokenizer.encode(text))
        assert list(places) == sorted(places)
        for place in set(places.tolist()):
            before = tokenizer.encode(text)[places < place]
            assert tokenizer.decode(before) == example.read(text[:place])


@NAMED
def test_a_boundary_is_the_first_token_after_those_of_text_and_stands_for_none(example):
    inner = example.tokenizer
    tokenizer = SequenceTokenizer(inner)
    labelled = LabelledTokenizer(tokenizer, ("old", "new"))
    assert inner.boundary is None and SlottedTokenizer(inner).boundary is None
    assert tokenizer.boundary == labelled.boundary == inner.vocabulary_size
    assert (tokenizer.vocabulary_size, labelled.vocabulary_size) == (
        inner.vocabulary_size + 1, inner.vocabulary_size + 3,
    )  # fmt: skip
    ids = tokenizer.encode(example.text)
    np.testing.assert_array_equal(ids, inner.encode(example.text))
    row = [tokenizer.boundary, *ids.tolist(), tokenizer.boundary]
    for given_ids in (row, np.array(row), torch.tensor(row)):
        assert tokenizer.decode(given_ids) == example.read(example.text)
    assert labelled.decode([labelled.vocabulary_size - 1, *row]) == example.read(example.text)
    for taken in (SlottedTokenizer(inner), LabelledTokenizer(inner, ("a", "b")), tokenizer):
        with pytest.raises(ValueError, match="around plain text"):
            SequenceTokenizer(taken)
    with pytest.raises(ValueError, match="slots"):
        SlottedTokenizer(tokenizer)


def test_a_line_break_is_in_the_alphabet_of_sequences_only_if_one_holds_it():
    assert sequence_tokenizer_for("characters", ["ab", "cd"]).inner == CharacterTokenizer("abcd")
    assert "\n" in sequence_tokenizer_for("characters", ["ab", "c\nd"]).inner.alphabet


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_is_named_is_made_for_sequences(name):
    text = EXAMPLES[name].read(EXAMPLES[name].text)
    tokenizer = sequence_tokenizer_for(name, [text, text])
    assert tokenizer.boundary is not None
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_alphabet_beyond_256_characters_needs_two_bytes_per_id():
    alphabet = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    tokenizer = CharacterTokenizer(alphabet)
    (ids, *_) = tokenizer.encode_stream([alphabet.encode()])
    assert ids.dtype == token_dtype(300) == np.uint16
    assert ids.tolist() == list(range(300))


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
    for name in (*TOKENIZERS, *LEARNED):
        with pytest.raises(ValueError, match=rf"there are .*\b{name}\b"):
            make_tokenizer("letters", path)


@pytest.mark.parametrize("facts", [
    {"kind": "words"}, {"kind": "words", "words": ["a b"]}, {"kind": "words", "words": []},
    {"kind": "words", "words": ["a", "a"]}, {"kind": "words", "words": "ab"},
    {"kind": "subwords"}, {"kind": "subwords", "name": "x", "library": {}},
    {}, {"kind": "letters"}, {"kind": 3}, {"kind": "characters"}, {"kind": "slotted", "rate": 0.1},
    {"kind": "characters", "alphabet": 7}, {"kind": "characters", "alphabet": "aa"},
    {"kind": "labelled", "inner": {"kind": "bytes"}}, {"kind": "slotted", "inner": 3, "rate": 0.1},
    {"kind": "slotted", "inner": {"kind": "bytes"}, "rate": "much"},
    {"kind": "labelled", "inner": {"kind": "no"}, "labels": ["a"]},
    {"kind": "sequences"}, {"kind": "sequences", "inner": 3},
])  # fmt: skip
def test_facts_of_no_tokenizer_are_refused(facts):
    with pytest.raises(
        ValueError, match=r"described by|repeats|not a word|no words|cannot be used"
    ):
        tokenizer_from_dict(facts)


def test_the_kinds_that_are_known_are_those_of_the_tables():
    with pytest.raises(ValueError, match=", ".join([*TOKENIZERS, *STORED, *AROUND])):
        tokenizer_from_dict({"kind": "letters"})


@pytest.mark.slow
@NAMED
def test_memory_does_not_grow_with_the_text(example):
    tokenizer, chunk = example.tokenizer, example.text.encode() * 2000

    def peak(num_chunks):
        tracemalloc.start()
        for _ in tokenizer.encode_stream(chunk for _ in range(num_chunks)):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    peak(2)
    assert peak(64) < 1.1 * peak(4) + 4096
