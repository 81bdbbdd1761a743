"""Windows: they are pieces of the text, uniform or evenly spaced."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from stochloc.data.token_files import count_tokens
from stochloc.data.windows import draw_windows, held_out_windows


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 50), st.integers(0, 40), st.integers(0, 9))
def test_drawn_windows_are_pieces_of_the_text(length, rest, num):
    tokens = np.arange(length + rest, dtype=np.uint8)
    windows = draw_windows(tokens, num, length, generator())
    assert windows.shape == (num, length)
    assert windows.dtype == torch.int64
    assert torch.equal(windows, windows[:, :1] + torch.arange(length))
    assert ((windows[:, 0] >= 0) & (windows[:, 0] <= rest)).all()


def test_every_position_is_equally_likely():
    # Chi-square with 10 degrees of freedom; detects a place 5 % too rare. False alarm 1e-6.
    windows = draw_windows(np.arange(13), 110_000, 3, generator())
    counts = torch.bincount(windows[:, 0], minlength=11).double()
    statistic = ((counts - 10_000) ** 2 / 10_000).sum()
    assert len(counts) == 11
    assert chi2.sf(statistic.item(), df=10) > 1e-6


def test_the_generator_alone_decides():
    before = torch.get_rng_state()
    first, again = (draw_windows(np.arange(99), 5, 7, generator(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 30))
def test_held_out_windows_never_overlap_and_respect_the_limit(num_tokens, length, limit):
    length = min(length, num_tokens)
    windows = held_out_windows(np.arange(num_tokens), length, limit)
    assert len(windows) == min(limit, num_tokens // length)
    assert len(windows.unique()) == windows.numel()


def test_without_limit_the_windows_are_the_text_in_order():
    windows = held_out_windows(np.arange(11), 3)
    assert windows.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_limit_spreads_the_windows_over_the_text():
    assert held_out_windows(np.arange(1000), 10, 4)[:, 0].tolist() == [0, 250, 500, 750]


def test_a_text_shorter_than_a_window_is_refused_with_both_numbers():
    for cut in (lambda t: draw_windows(t, 1, 8, generator()), lambda t: held_out_windows(t, 8)):
        with pytest.raises(ValueError, match="has 5 tokens but a window takes 8"):
            cut(np.arange(5))


def test_empty_windows_and_empty_limits_are_refused():
    with pytest.raises(ValueError, match="at least one token"):
        held_out_windows(np.arange(5), 0)
    with pytest.raises(ValueError, match="at least one"):
        held_out_windows(np.arange(5), 2, limit=0)


def test_counting_in_pieces_counts_every_token_once(monkeypatch):
    monkeypatch.setattr("stochloc.data.token_files.COUNT_TOKENS", 7)
    tokens = np.random.default_rng(0).integers(0, 5, 100).astype(np.uint8)
    assert count_tokens(tokens, 6).tolist() == np.bincount(tokens, minlength=6).tolist()
