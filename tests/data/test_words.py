"""Words as tokens: lines keep their breaks, and unknown words are named."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data import load_corpus
from stochloc.data.normalisation import normalise
from stochloc.data.texts import UnknownCharactersError
from stochloc.data.tokenizers.named import (
    sequence_tokenizer_for,
    tokenizer_for,
    tokenizer_from_dict,
)
from stochloc.data.tokenizers.parts import Characters, Words
from stochloc.data.tokenizers.words import WordTokenizer

CHORDS = WordTokenizer(("\n", "Am", "C", "G7", "café"))


def test_words_and_line_breaks_are_tokens_in_the_order_of_their_code_points():
    assert tokenizer_for("words", [b"G7 C\r\n", b"A", b"m  C\n"]).words == ("\n", "Am", "C", "G7")
    assert CHORDS.encode("Am\tG7 \n\n C").tolist() == [1, 3, 0, 0, 2]
    assert CHORDS.decode([1, 3, 0, 0, 2]) == "Am G7\n\nC"


def test_sequences_of_words_have_no_line_break():
    assert sequence_tokenizer_for("words", ["C G7", "Am"]).inner.words == ("Am", "C", "G7")


@given(st.text(st.sampled_from("ab \n\r\té")))
def test_parts_add_up_to_the_text(text):
    for parts in (Words(), Characters()):
        assert "".join(parts.split(text)) == text


def test_an_unknown_word_is_named_with_its_place():
    with pytest.raises(UnknownCharactersError, match="The word 'F#m' at position 4, counted from"):
        CHORDS.encode("Am F#m C")
    chunks = [b"Am C\nG7 D", b"m C Q\n"]
    expected = r"word 'Dm' at line 2, character 4 \(the first of 2 unknown ones: 'Dm', 'Q'\)"
    with pytest.raises(UnknownCharactersError, match=expected):
        list(CHORDS.encode_stream(chunks))


def test_words_are_normalised_as_wholes_and_the_unknown_ones_told():
    seen = normalise(unicodedata.normalize("NFD", "C café\r\nF#m  G7"), CHORDS)
    assert seen.text == "C café\nF#m  G7"
    assert seen.unknown == {7: "F#m"}
    assert len(seen.notes) == 2
    with pytest.raises(ValueError, match="The word 'F#m' at position 10, counted from 1, is not"):
        seen.known_only()


def test_text_in_the_other_unicode_form_is_read_in_the_form_of_the_words(tmp_path):
    (tmp_path / "train.txt").write_text("café C\n" * 30, encoding="utf-8")
    other = unicodedata.normalize("NFD", "C café\n")
    (tmp_path / "test.txt").write_text(other, encoding="utf-8")
    corpus = load_corpus(
        tmp_path / "train.txt", "words", test=tmp_path / "test.txt", cache_dir=tmp_path
    )
    assert corpus.tokenizer.decode(corpus.test) == "C café\n"


def test_the_name_of_a_vocabulary_is_told_only_if_it_is_not_the_usual_one():
    told = tokenizer_for("words:train", [b"C Am"])
    assert told.to_dict() == {"kind": "words", "words": ["Am", "C"], "name": "words:train"}
    for tokenizer in (told, CHORDS):
        assert tokenizer_from_dict(tokenizer.to_dict()) == tokenizer
    assert CHORDS.to_dict().keys() == {"kind", "words"}
    with pytest.raises(ValueError, match="or of training text alone, words:train, not 'words:all'"):
        tokenizer_for("words:all", [b"C"])


@pytest.mark.parametrize("words", [(), ("a", "a"), ("a b",), ("",), ("a\n",)])
def test_a_vocabulary_is_of_different_words(words):
    with pytest.raises(ValueError, match="word"):
        WordTokenizer(words)
