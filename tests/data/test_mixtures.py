"""Mixtures: several texts, split by themselves, whose windows are drawn with given shares."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from stochloc.data.corpora import load_corpus, load_mixture
from stochloc.data.mixtures import Mixture
from stochloc.data.records import Reading


@pytest.mark.parametrize(
    ("weights", "shares"), [((3.0, 1.0), (0.75, 0.25)), ((), (5 / 14, 9 / 14))]
)
def test_windows_are_drawn_with_the_shares_and_uniformly_within_each_text(weights, shares):
    """False alarms: 1e-7 each. With swapped or ignored weights chi² is above 5,000 (9 places)."""
    mixture, tokens = Mixture((5, 9), weights), np.arange(14)
    windows = mixture.draw_windows(tokens, 20_000, 3, torch.Generator().manual_seed(1))
    assert (windows == windows[:, :1] + torch.arange(3)).all()
    counts = torch.bincount(windows[:, 0], minlength=14).numpy()
    expected = np.zeros(14)
    expected[:3], expected[5:12] = shares[0] / 3, shares[1] / 7
    assert counts[expected == 0].sum() == 0  # no window runs from one text into the next
    inside = expected > 0
    assert chisquare(counts[inside], 20_000 * expected[inside]).pvalue > 1e-7


def test_the_same_seed_draws_the_same_windows():
    mixture, tokens = Mixture((50, 90), (1.0, 2.0)), np.arange(140)
    first, second = (
        mixture.draw_windows(tokens, 8, 9, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_counts_are_those_of_the_windows_that_are_drawn():
    tokens = np.array([0, 0, 1, 2, 2, 2, 2, 2])
    assert Mixture((3, 5)).count(tokens, 3).tolist() == [2, 1, 5]
    # Half of 8 tokens are of the first text: two thirds of them are 0.
    assert Mixture((3, 5), (1.0, 1.0)).count(tokens, 3).tolist() == [3, 1, 4]


@pytest.mark.parametrize(
    ("weights", "limit", "numbers"),
    [
        ((), None, (10, 20)), ((), 6, (2, 4)), ((3.0, 1.0), None, (10, 3)), ((3.0, 1.0), 8, (6, 2)),
        ((1.0, 999.0), 20, (1, 20)), ((1.0, 2.0), 1000, (10, 20)),
    ],
)  # fmt: skip
def test_held_out_windows_have_the_shares_of_training_and_are_of_one_text_each(
    weights, limit, numbers
):
    mixture, tokens = Mixture((41, 82, 3), (*weights, 1.0) if weights else ()), np.arange(126)
    windows = mixture.held_out(tokens, 4, limit)
    assert (windows == windows[:, :1] + torch.arange(4)).all()
    of_first = int((windows[:, -1] < 41).sum())
    # The third text is shorter than a window.
    assert (of_first, len(windows) - of_first) == numbers
    assert len(windows.unique(dim=0)) == len(windows)
    assert not ((windows[:, 0] < 41) & (windows[:, -1] >= 41)).any()
    assert int(windows.max()) < 41 + 82


def test_held_out_windows_of_texts_that_hold_none_are_refused():
    with pytest.raises(ValueError, match="has 9 tokens but a window takes 10"):
        Mixture((5, 9), (1.0, 2.0)).held_out(np.arange(14), 10)
    with pytest.raises(ValueError, match="ask for at least one"):
        Mixture((5, 9), (1.0, 2.0)).held_out(np.arange(14), 3, 0)


def test_each_text_of_a_mixture_is_split_by_itself(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 80 + "b" * 10 + "c" * 10)
    (tmp_path / "b.fa").write_text(">x\n" + "d" * 800 + "e" * 100 + "f" * 100)
    corpus = load_mixture([tmp_path / "a.txt", tmp_path / "b.fa"], fractions=(0.8, 0.1, 0.1))
    texts = [corpus.tokenizer.decode(p) for p in (corpus.train, corpus.valid, corpus.test)]
    assert texts == ["a" * 80 + "D" * 800, "b" * 10 + "E" * 100, "c" * 10 + "F" * 100]
    assert corpus.mixture is not None and corpus.mixture.sizes == (80, 800)
    assert corpus.name == "a.txt, b.fa"
    assert {part: held.sizes for part, held in corpus.held_out.items()} == {
        "valid": (10, 100), "test": (10, 100),
    }  # fmt: skip
    own = load_mixture([tmp_path / "a.txt", tmp_path / "b.fa"], valid=tmp_path / "a.txt")
    assert set(own.held_out) == {"test"}


def test_one_file_of_records_is_the_text_of_its_field(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,abc\n2,cab\n")
    corpus = load_corpus(tmp_path / "a.csv", fractions=(1.0, 0.0, 0.0), reading=Reading("y"))
    assert corpus.tokenizer.decode(corpus.train) == "abc\ncab"


def test_texts_of_classes_may_be_of_any_format(tmp_path):
    (tmp_path / "a.csv").write_text("y\n" + "ab\n" * 9)
    (tmp_path / "b.jsonl").write_text('{"y": "cd"}\n' * 9)
    data = f"one={tmp_path / 'a.csv'},two={tmp_path / 'b.jsonl'}"
    corpus = load_corpus(data, reading=Reading("y"))
    assert corpus.tokenizer.labels == ("one", "two")
    assert set(corpus.tokenizer.decode(corpus.train)) == set("abcd\n")


@pytest.mark.parametrize(("weights", "sentence"), [
    ((1.0,), "There are 1 weights for 2 texts; give one for each"),
    ((1.0, 0.0), "are not all positive numbers"),
    ((1.0, float("nan")), "are not all positive numbers"),
    ((1.0, float("inf")), "are not all positive numbers"),
])  # fmt: skip
def test_weights_that_are_no_shares_are_refused(tmp_path, weights, sentence):
    (tmp_path / "a.txt").write_text("ab" * 50)
    with pytest.raises(ValueError, match=sentence):
        load_mixture([tmp_path / "a.txt"] * 2, weights)


def test_classes_and_corpora_by_name_with_fields_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("ab" * 50)
    with pytest.raises(ValueError, match=r"cannot be mixed with others"):
        load_mixture([tmp_path / "a.txt", "x=a.txt,y=b.txt"])
    with pytest.raises(ValueError, match=r"builtin is one text, without fields"):
        load_corpus("builtin", reading=Reading("text"))
    with pytest.raises(ValueError, match=r"The text has 5 tokens but a window takes 6"):
        Mixture((5, 9)).draw_windows(np.arange(14), 1, 6, torch.Generator())
