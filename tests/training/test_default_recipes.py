"""The recipes behind the published figures, number by number."""

import math
from dataclasses import asdict

import numpy as np
import pytest

from stochloc.nn import Backbone, LocalizationModel, ModelConfig
from stochloc.nn.network import FASTEST_TIME
from stochloc.training.objective import UNLABELLED_SHARE
from stochloc.training.recipes import TrainingConfig, preset
from stochloc.training.snr import (
    Endpoints,
    LeftToRight,
    Masks,
    Mixture,
    SentenceLogNormal,
    TokenLogNormal,
)
from stochloc.training.texts import Texts

SHOWN = Endpoints(TokenLogNormal(mean=math.log(5.0), sigma=1.2))
OURS = LeftToRight(SHOWN, share=0.0, known_share=9 / 16, alone_weight=0.5)
TRAINING = {
    "length": 128, "batch_size": 32, "num_steps": 1500, "learning_rate": 2e-3,
    "weight_decay": 0.03, "warmup_steps": 100, "beta2": 0.98, "clip_norm": 1.0, "ema_decay": 0.999,
    "seed": 0, "eval_every": 250, "eval_sequences": 64, "checkpoint_every": 250, "log_every": 10,
}  # fmt: skip
MODEL = {
    "vocabulary_size": 27, "width": 128, "depth": 4, "heads": 4, "code_dimension": 0,
    "evidence": True, "unigram": True, "mask_slot": False, "beta": 0.0, "rotary_base": 10_000.0,
    "neighbour_logit": 0.0, "architecture": "encoder", "head_bias": False,
    "given_tokens": 0, "fixed_codes": False, "positions": "rotary",
}  # fmt: skip
OURS_BEGINS = {
    "architecture": "two-sided",
    "beta": 1.0,
    "rotary_base": 100.0,
    "neighbour_logit": 12.0,
}
LARGE = {"width": 768, "depth": 12, "heads": 12}
LONG = {
    "length": 256, "batch_size": 512, "num_steps": 1_000_000, "learning_rate": 3e-4,
    "warmup_steps": 2000, "ema_decay": 0.9999, "eval_every": 5000, "eval_sequences": 256,
    "checkpoint_every": 1000, "log_every": 100,
}  # fmt: skip
SMALL = {
    "length": 256, "batch_size": 64, "num_steps": 20_000, "learning_rate": 1e-3,
    "warmup_steps": 500, "ema_decay": 0.9995, "eval_every": 1000, "checkpoint_every": 500,
    "log_every": 50,
}  # fmt: skip


@pytest.mark.parametrize(("name", "model", "training", "law"), [
    ("tiny", OURS_BEGINS, {"learning_rate": 8e-3, "optimizer": "muon"}, OURS),
    ("puzzle", {"beta": 1.0, "depth": 6, "rotary_base": 1e9}, {"batch_size": 64, "num_steps": 3000},
     Masks(least=0.15, most=0.75)),
    ("small", OURS_BEGINS | {"width": 384, "depth": 6, "heads": 6}, SMALL, OURS),
    ("text8", OURS_BEGINS | LARGE, LONG, OURS),
    ("text8-paper", LARGE | {"code_dimension": 16, "evidence": False, "unigram": False}, LONG,
     SentenceLogNormal(mean=1.4, sigma=0.55)),
])  # fmt: skip
def test_a_preset_is_the_recipe_that_the_figures_were_measured_with(name, model, training, law):
    recipe = preset(name, 27)
    assert asdict(recipe.model) == MODEL | model
    assert recipe.training == TrainingConfig(**(TRAINING | training), law=law)


@pytest.mark.parametrize("name", ["tiny", "small", "text8"])
def test_codes_are_corners_up_to_a_thousand_tokens_and_beyond_that_random(name):
    corners, random = (preset(name, size).model for size in (1000, 1001))
    assert (corners.code_dimension, corners.fixed_codes) == (0, False)
    assert (random.code_dimension, random.fixed_codes) == (64, True)
    paper = preset("text8-paper", 50_257).model
    assert (paper.code_dimension, paper.fixed_codes) == (16, False)


def test_defaults_of_laws_models_and_backbones_are_those_measured():
    assert TrainingConfig() == TrainingConfig(**TRAINING, law=SHOWN)
    assert asdict(ModelConfig(27)) == MODEL
    assert SentenceLogNormal() == SentenceLogNormal(1.4, 0.55)
    assert Mixture(SHOWN, Masks()).share == 0.5
    assert Backbone() == Backbone(128, 4, 4, rotary_base=100.0, neighbour_logit=12.0)
    assert (FASTEST_TIME, UNLABELLED_SHARE) == (1000.0, 0.1)
    # No token of a text is a label unless one says so.
    nothing = np.zeros(1, dtype=np.uint8)
    assert Texts(nothing, nothing, lambda model: "").first_label == 0


def test_the_smallest_preset_has_as_many_parameters_as_the_tables_say():
    assert LocalizationModel(preset("tiny", 27).model).num_parameters == 992_641
