"""Recipes are accepted up to the edge of what can train and refused just beyond."""

import math

import pytest
import torch

from stochloc.nn import ModelConfig
from stochloc.nn.config import LARGEST
from stochloc.nn.weights import MOST_HEADER_BYTES, check_shapes
from stochloc.training.ema import AveragedWeights
from stochloc.training.recipes import TrainingConfig
from stochloc.training.snr import Endpoints, Masks, Mixture, SentenceLogNormal, TokenLogNormal

TINY, NEAR_1, OVER_1, HUGE = 5e-324, math.nextafter(1, 0), math.nextafter(1, 2), 1.7e308
INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(("name", "inside", "outside"), [
    ("weight_decay", [0.0, HUGE], [-TINY, INF, NAN]), ("warmup_steps", [0], [-1]),
    ("seed", [0], [-1]), ("learning_rate", [TINY, HUGE], [0.0, INF, NAN]),
    ("clip_norm", [TINY, 0.5, INF], [0.0, NAN]), ("ema_decay", [0.0, NEAR_1], [-TINY, 1.0, NAN]),
    ("beta2", [0.0, NEAR_1], [-TINY, 1.0, NAN]),
])  # fmt: skip
def test_training_is_possible_up_to_the_edge_of_each_range(name, inside, outside):
    for value in inside:
        assert getattr(TrainingConfig(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(ValueError):  # noqa: PT011
            TrainingConfig(**{name: value})


@pytest.mark.parametrize(("name", "inside", "outside"), [
    ("vocabulary_size", [1, LARGEST["vocabulary_size"]], [0, LARGEST["vocabulary_size"] + 1]),
    ("depth", [1, LARGEST["depth"]], [0, LARGEST["depth"] + 1]),
    ("code_dimension", [0, 1, LARGEST["code_dimension"]], [-1, LARGEST["code_dimension"] + 1]),
    ("width", [8, LARGEST["width"]], [0, 12, LARGEST["width"] + 8]), ("heads", [1, 64], [0, 3]),
    ("beta", [0.0, HUGE], [-TINY, INF, NAN]), ("rotary_base", [1.0, HUGE], [NEAR_1, INF, NAN]),
    ("neighbour_logit", [0.0, HUGE], [-TINY, INF, NAN]), ("given_tokens", [0, 4], [-1, 5]),
])  # fmt: skip
def test_models_are_possible_up_to_the_edge_of_each_range(name, inside, outside):
    for value in inside:
        assert getattr(ModelConfig(**{"vocabulary_size": 5, name: value}), name) == value
    for value in outside:
        with pytest.raises(ValueError):  # noqa: PT011
            ModelConfig(**{"vocabulary_size": 5, name: value})


def test_the_largest_models_are_those_beyond_any_there_is():
    assert LARGEST == {
        "vocabulary_size": 10**8, "width": 10**6, "depth": 10**5, "code_dimension": 10**6,
    }  # fmt: skip
    assert MOST_HEADER_BYTES == 16_000_000


def test_laws_are_possible_up_to_the_edge_of_each_range():
    inner = Endpoints(TokenLogNormal(0.0, TINY))
    for share in (0.0, 1.0):
        assert Mixture(inner, Masks(), share).share == share
    for share in (-TINY, OVER_1, NAN):
        with pytest.raises(ValueError, match="share"):
            Mixture(inner, Masks(), share)
    for law in (SentenceLogNormal, TokenLogNormal):
        assert law(0.0, TINY).sigma == TINY
        for sigma in (0.0, -1.0, NAN):
            with pytest.raises(ValueError, match="spread"):
                law(0.0, sigma)


def test_as_many_blocks_as_tensors_may_be_configured_but_no_more():
    make = lambda: torch.nn.Linear(1, 1)  # noqa: E731
    check_shapes({"weight": (1, 1), "bias": (1,)}, make, depth=2)
    with pytest.raises(ValueError, match="3 blocks"):
        check_shapes({"weight": (1, 1), "bias": (1,)}, make, depth=3)


def test_the_average_forgets_the_start_at_a_rate_that_warms_up():
    module = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.zero_()
    average, expected = AveragedWeights(module, 0.5), 0.0
    for step in range(12):
        with torch.no_grad():
            module.weight.fill_(step + 1.0)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
        assert float(average.averages[0]) == pytest.approx(expected, rel=1e-6)
