"""Texts in slots: layouts keep the text, and windows change slots at the stated rates."""

import numpy as np
import pytest
import torch
from data.tokenizer_examples import EXAMPLES
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data import (
    ByteTokenizer,
    CharacterTokenizer,
    LabelledTokenizer,
    SlottedTokenizer,
    encode_file,
    tokenizer_from_dict,
)
from stochloc.data.tokenizers.slots import pour

TOKENIZER = SlottedTokenizer(CharacterTokenizer("abcdef"), rate=0.2)
EMPTY = TOKENIZER.empty
TEXTS = st.text("abcdef", max_size=40)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(TEXTS)
def test_a_layout_has_an_empty_gap_around_every_character_and_decodes_to_the_text(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    if text:
        assert (ids[::2] == EMPTY).all()
        assert TOKENIZER.inner.decode(ids[1::2]) == text


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
@given(data=st.data())
def test_a_stream_cut_anywhere_is_laid_out_like_the_whole(example, data):
    pieces = data.draw(st.lists(example.texts, max_size=6))
    tokenizer = SlottedTokenizer(example.tokenizer)
    stream = list(tokenizer.encode_stream(piece.encode() for piece in pieces))
    joined = np.concatenate([np.zeros(0, int), *stream])
    np.testing.assert_array_equal(joined, tokenizer.encode("".join(pieces)))


def test_an_empty_file_is_refused_in_slots_as_it_is_without(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match=r"empty\.txt is empty"):
        encode_file(tmp_path / "empty.txt", TOKENIZER, tmp_path)


def test_a_slotted_tokenizer_is_remade_from_its_facts():
    assert tokenizer_from_dict(TOKENIZER.to_dict()) == TOKENIZER


@given(TEXTS.filter(bool), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_pouring_keeps_the_order_of_the_text_and_loses_nothing_while_there_is_room(
    text, lost, added, seed
):
    layout = torch.from_numpy(TOKENIZER.encode(text))[None]
    poured = pour(layout, layout == EMPTY, lost, added, EMPTY, generator(seed))
    kept = TOKENIZER.decode(poured[0])
    assert text.startswith(kept)
    if kept != text:
        assert len(kept) < len(text)


@given(TEXTS.filter(bool))
def test_pouring_without_changes_is_the_layout_of_the_text(text):
    layout = torch.from_numpy(TOKENIZER.encode(text))[None]
    assert torch.equal(pour(layout, layout == EMPTY, 0.0, 0.0, EMPTY, generator()), layout)


def test_windows_change_the_role_of_slots_at_the_rate_and_hold_text_in_its_order():
    text = "abcdef" * 200
    tokens = TOKENIZER.encode(text)
    windows = TOKENIZER.slots.draw_windows(tokens, 500, 31, generator())
    for row in windows[:50]:
        assert TOKENIZER.decode(row) in text
    # In the order abcdef no window can hide which of its two phases is the gaps' one: try both.
    filled = (windows != EMPTY).double()
    even, odd = filled[:, ::2].mean(-1), filled[:, 1::2].mean(-1)
    begins_with_gap = even < odd
    in_gaps = torch.where(begins_with_gap, even, odd).mean()
    in_places = torch.where(begins_with_gap, odd, even).mean()
    # Means of over 7,500 draws at 0.2 and 0.8 deviate by 0.0046; 5.5 deviations have 1e-7.
    assert abs(in_gaps - 0.2) < 0.026
    assert abs(in_places - 0.8) < 0.026
    # Either phase comes first in half of 500 windows: 5.5 deviations of 0.0224.
    assert abs(begins_with_gap.double().mean() - 0.5) < 0.124


def test_the_same_generator_draws_the_same_windows_and_another_does_not():
    tokens = TOKENIZER.encode("abcdef" * 20)
    first, again, other = (
        TOKENIZER.slots.draw_windows(tokens, 4, 20, generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_cannot_be_laid_out_is_refused():
    for rate in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            SlottedTokenizer(ByteTokenizer(), rate)
    with pytest.raises(ValueError, match="several classes"):
        SlottedTokenizer(LabelledTokenizer(ByteTokenizer(), ("a", "b")))
    with pytest.raises(ValueError, match="a window takes 40"):
        TOKENIZER.slots.draw_windows(TOKENIZER.encode("abc"), 1, 20, generator())
