"""Categorical draws and stratified uniforms."""

import pytest
import torch
from core.worlds import generator

from stochloc.core import Streams
from stochloc.core.numerics import draw_categorical, draw_stratified, draw_uniform


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tokens_are_drawn_in_proportion_to_their_weights(dtype):
    # χ² with 3 degrees of freedom: above 40 with a probability of 1e-8.
    weights = torch.tensor([1.0, 0.0, 2.0, 4.0, 1.0], dtype=dtype)
    drawn = draw_categorical(weights.expand(100_000, -1), generator(0))
    counts = drawn.bincount(minlength=5).double()
    expected = weights.double() / 8 * 100_000
    assert counts[1] == 0
    assert float(((counts - expected).square() / expected.clamp(min=1)).sum()) < 40


def test_a_token_of_weight_zero_is_never_drawn_not_even_at_the_ends():
    weights = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0]).expand(200_000, -1)
    assert set(draw_categorical(weights, generator(0)).unique().tolist()) == {1, 3}


def test_rare_tokens_are_reached_as_often_as_they_should_be():
    # Float32 noise of 24 bits cannot resolve 2^-30; here the expected count of each half is 5,000.
    rare = torch.full((1_000,), 2.0**-30, dtype=torch.float64)
    weights = torch.cat([torch.tensor([1000 * 2.0**-30], dtype=torch.float64), rare])
    drawn = draw_categorical(weights.expand(10_000, -1), generator(0))
    assert abs(int((drawn == 0).sum()) - 5_000) < 6 * 50


def test_each_stratum_receives_exactly_one_uniform():
    u = draw_stratified(50, 8, generator(0))
    assert torch.equal((u * 8).long(), torch.arange(8).expand(50, 8))


def test_uniforms_have_the_53_bits_that_rare_tokens_need():
    # A million of them collide 6e-5 times on average; with the 24 bits of float32, 30,000 times.
    one = draw_uniform((10**6,), generator(0))
    several = draw_uniform((2, 500_000), Streams((generator(1), generator(2)), torch.device("cpu")))
    for drawn in (one, several):
        assert drawn.dtype == torch.float64
        assert len(drawn.unique()) >= 10**6 - 3
