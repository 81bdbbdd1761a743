"""Texts of several classes: the label stands where it should, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data import CharacterTokenizer, LabelledTokenizer, load_corpus, tokenizer_from_dict
from stochloc.data.labels import PERIOD, interleave, label_token, parse_classes

TOKENIZER = LabelledTokenizer(CharacterTokenizer("abc "), ("first", "second"))


@given(st.text("abc ", max_size=300))
def test_labels_stand_once_in_every_period_and_decode_to_nothing(text):
    tokens = TOKENIZER.encode(text)
    labelled = interleave(tokens, "second", TOKENIZER)
    assert TOKENIZER.decode(labelled) == text
    places = np.flatnonzero(TOKENIZER.is_label(labelled))
    assert np.array_equal(places, np.arange(len(places)) * PERIOD)
    assert len(places) == -(-len(text) // (PERIOD - 1))
    assert (labelled[places] == label_token(TOKENIZER, "second")).all()


def test_a_labelled_tokenizer_survives_json_and_knows_its_classes():
    assert tokenizer_from_dict(TOKENIZER.to_dict()) == TOKENIZER
    assert TOKENIZER.vocabulary_size == 6
    assert [label_token(TOKENIZER, name) for name in ("first", "second")] == [4, 5]
    with pytest.raises(ValueError, match="no class 'third'"):
        label_token(TOKENIZER, "third")
    with pytest.raises(ValueError, match="different names"):
        LabelledTokenizer(CharacterTokenizer("ab"), ("x", "x"))


@pytest.mark.parametrize("data", ["a=", "=b", "a=x,a=y", "a=x,b", "a=x"])
def test_malformed_classes_are_refused(data):
    with pytest.raises(ValueError, match=r"NAME=FILE"):
        parse_classes(data)
    assert parse_classes("plain.txt") == {}
    assert parse_classes("a=x,b=y=z") == {"a": "x", "b": "y=z"}


def test_a_labelled_corpus_holds_each_class_in_each_part_under_its_own_label(tmp_path):
    (tmp_path / "a.txt").write_text("ab" * 500)
    (tmp_path / "b.txt").write_text("xyz" * 400)
    data = f"first={tmp_path / 'a.txt'},second={tmp_path / 'b.txt'}"
    corpus = load_corpus(data, fractions=(0.8, 0.1, 0.1), cache_dir=tmp_path / "cache")
    assert isinstance(corpus.tokenizer, LabelledTokenizer)
    assert corpus.tokenizer.labels == ("first", "second")
    for part, share in ((corpus.train, 0.8), (corpus.valid, 0.1), (corpus.test, 0.1)):
        text = corpus.tokenizer.decode(part)
        assert len(text) == round(1000 * share) + round(1200 * share)
        is_label = corpus.tokenizer.is_label(part)
        current = np.where(is_label, part, 0)
        current = np.maximum.accumulate(np.where(is_label, np.arange(len(part)), 0))
        first = part[current] == label_token(corpus.tokenizer, "first")
        assert set(corpus.tokenizer.decode(part[first])) == {"a", "b"}
        assert set(corpus.tokenizer.decode(part[~first])) == {"x", "y", "z"}
    again = load_corpus(data, corpus.tokenizer, cache_dir=tmp_path / "cache")
    assert again.tokenizer == corpus.tokenizer
    with pytest.raises(ValueError, match="leave out --valid"):
        load_corpus(data, valid=tmp_path / "a.txt")
