"""Texts of several classes: the label stands where it should, and nowhere else."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data import CharacterTokenizer, LabelledTokenizer, load_corpus, tokenizer_from_dict
from stochloc.data.labels import LabelledTexts, first_label, headed, label_token, parse_classes

TOKENIZER = LabelledTokenizer(CharacterTokenizer("abc "), ("first", "second"))


SIZES = st.lists(st.integers(0, 40), min_size=2, max_size=2).filter(lambda sizes: max(sizes) >= 5)


def texts(sizes):
    """Texts of the two classes, whose tokens tell their own places modulo 4."""
    parts = [
        headed(np.arange(size) % 4, name, TOKENIZER)
        for size, name in zip(sizes, TOKENIZER.labels, strict=True)
    ]
    return LabelledTexts.of(np.concatenate(parts), TOKENIZER)


def test_a_text_stands_behind_its_label_which_decodes_to_nothing():
    tokens = headed(TOKENIZER.encode("abc ab"), "second", TOKENIZER)
    assert TOKENIZER.decode(tokens) == "abc ab"
    assert np.flatnonzero(tokens >= first_label(TOKENIZER)).tolist() == [0]
    assert tokens[0] == label_token(TOKENIZER, "second")
    assert tokens.dtype == np.uint8


@given(SIZES, st.integers(2, 6), st.one_of(st.none(), st.integers(1, 9)))
def test_held_out_windows_of_classes_are_disjoint_stretches_behind_their_own_label(
    sizes, length, limit
):
    windows = texts(sizes).held_out(length, limit)
    available = sum(size // (length - 1) for size in sizes)
    assert windows.shape == (available if limit is None else min(limit, available), length)
    assert (windows[:, 0] >= first_label(TOKENIZER)).all()
    assert not (windows[:, 1:] >= first_label(TOKENIZER)).any()
    assert ((windows[:, 2:] - windows[:, 1:-1]) % 4 == 1).all()
    if limit is None:
        for size, label in zip(sizes, (4, 5), strict=True):
            own = windows[windows[:, 0] == label, 1:].flatten()
            assert torch.equal(own, torch.arange(len(own)) % 4)
            assert len(own) == size // (length - 1) * (length - 1)


def test_every_window_of_every_class_is_drawn_equally_often():
    # 11 windows, 110,000 draws: each count is within 5.5 deviations of 10,000 with a probability of
    # 1 - 4e-8; a class or an end left out, or drawn twice as often, is thousands away.
    sizes, num = (9, 6), 110_000
    drawn = texts(sizes).draw(num, 4, torch.Generator().manual_seed(0))
    kinds = {(4, n % 4) for n in range(7)} | {(5, n % 4) for n in range(4)}
    expected = Counter((4, n % 4) for n in range(7)) + Counter((5, n % 4) for n in range(4))
    counts = Counter(map(tuple, drawn[:, :2].tolist()))
    assert set(counts) == kinds
    for kind, windows in expected.items():
        share = windows / 11
        assert abs(counts[kind] - num * share) < 5.5 * (num * share * (1 - share)) ** 0.5
    assert ((drawn[:, 2:] - drawn[:, 1:-1]) % 4 == 1).all()
    again = texts(sizes).draw(num, 4, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_texts_too_short_for_a_window_are_left_out_and_refused_if_all_are():
    generator = torch.Generator().manual_seed(0)
    drawn = texts((2, 9)).draw(50, 4, generator)
    assert set(drawn[:, 0].tolist()) == {5}
    for cut in (lambda t: t.draw(1, 4, generator), lambda t: t.held_out(4)):
        with pytest.raises(ValueError, match=r"longest text of a class has 2 tokens .* takes 3"):
            cut(texts((2, 1)))
    with pytest.raises(ValueError, match="begin with its label"):
        LabelledTexts.of(np.array([0, 4, 1]), TOKENIZER)
    with pytest.raises(ValueError, match="at least one"):
        texts((9, 9)).held_out(4, 0)


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
        is_label = part >= first_label(corpus.tokenizer)
        current = np.where(is_label, part, 0)
        current = np.maximum.accumulate(np.where(is_label, np.arange(len(part)), 0))
        first = part[current] == label_token(corpus.tokenizer, "first")
        assert set(corpus.tokenizer.decode(part[first])) == {"a", "b"}
        assert set(corpus.tokenizer.decode(part[~first])) == {"x", "y", "z"}
    again = load_corpus(data, corpus.tokenizer, cache_dir=tmp_path / "cache")
    assert again.tokenizer == corpus.tokenizer
    with pytest.raises(ValueError, match="leave out --valid"):
        load_corpus(data, valid=tmp_path / "a.txt")
