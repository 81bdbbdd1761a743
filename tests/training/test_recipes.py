"""Recipes, laws of γ in detail, the learning rate and the optimiser's groups."""

import dataclasses
import json
import math

import pytest
import torch

from stochloc.nn import ENCODER, TWO_SIDED, LocalizationModel, ModelConfig, leaves_out
from stochloc.nn.backbones import ARCHITECTURES
from stochloc.training.ema import AveragedWeights
from stochloc.training.objective import cross_entropy
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import PRESETS, Recipe, TrainingConfig, preset
from stochloc.training.schedule import learning_rate
from stochloc.training.seeds import seeded_generator
from stochloc.training.snr import (
    Endpoints,
    IndependentSides,
    LeftToRight,
    Masks,
    Mixture,
    SentenceLogNormal,
    TokenLogNormal,
    law_from_dict,
    law_to_dict,
)
from stochloc.training.trainer import check_sharing


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_carries_its_name_and_the_size_of_the_vocabulary(name):
    recipe = preset(name, 19)
    assert recipe.preset == name
    assert recipe.model.vocabulary_size == 19


@pytest.mark.parametrize("name", ["text8", "text8-paper"])
def test_the_text8_presets_have_the_size_of_the_papers_model(name):
    recipe = preset(name, 27)
    model = recipe.model
    assert (model.depth, model.heads, model.width) == (12, 12, 768)
    assert recipe.training.length == 256
    with torch.device("meta"):
        blocks = LocalizationModel(model).num_parameters
    # The join of a two-sided network is as large as a block.
    num_blocks = 12 + (model.architecture == TWO_SIDED)
    assert blocks == pytest.approx(num_blocks * 12 * 768**2, rel=0.002)


def test_our_presets_use_simplex_codes_evidence_unigram_and_endpoints():
    for name in ("tiny", "small", "text8"):
        recipe = preset(name, 27)
        assert recipe.model.code_dimension == 0
        assert recipe.model.evidence
        assert recipe.model.unigram
        assert recipe.model.architecture == TWO_SIDED
        inside = Endpoints(TokenLogNormal())
        assert recipe.training.law == LeftToRight(
            inside, share=0.0, known_share=9 / 16, alone_weight=0.5
        )


def test_a_recipe_for_another_architecture_shows_it_what_it_can_be_shown():
    ours = preset("tiny", 9)
    encoder = ours.with_architecture(ENCODER)
    assert encoder.model.architecture == ENCODER
    assert encoder.training.law == Endpoints(TokenLogNormal())
    assert encoder.with_architecture(TWO_SIDED) == ours
    assert encoder.with_architecture(ENCODER) == encoder
    assert ours.with_architecture(TWO_SIDED) == ours


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["tiny", "text8-paper"])
def test_every_architecture_can_be_trained_by_a_preset_or_is_refused_in_a_sentence(
    name, architecture
):
    before = preset(name, 5)
    if leaves_out(architecture) and not before.model.evidence:
        with pytest.raises(ValueError, match="must be added"):
            before.with_architecture(architecture)
        return
    recipe = before.with_architecture(architecture).with_changes(width=16, depth=2, heads=2)
    model = LocalizationModel(recipe.model)
    tokens = torch.randint(0, 5, (8, 6), generator=generator(0))
    cross_entropy(model, tokens, recipe.training.law, generator(1)).backward()
    assert model.head.grad is not None
    assert model.head.grad.abs().sum() > 0


def test_what_a_network_cannot_be_shown_or_asked_is_refused():
    encoder = preset("tiny", 9).with_architecture(ENCODER)
    for law in (LeftToRight(TokenLogNormal()), IndependentSides(TokenLogNormal())):
        with pytest.raises(ValueError, match="needs a two-sided network"):
            encoder.with_changes(law=law)
    with pytest.raises(ValueError, match="no architecture 'dense'"):
        encoder.with_architecture("dense")
    with pytest.raises(ValueError, match="evidence"):
        preset("text8-paper", 9).with_architecture(TWO_SIDED)


def test_a_recipe_with_positions_keeps_neighbours_only_where_they_adjoin_in_the_text():
    ours = preset("tiny", 11).with_changes(given_tokens=1, length=83)
    logit = ours.model.neighbour_logit
    assert ours.with_positions("rotary") == ours
    learned = ours.with_positions("learned")
    assert (learned.model.positions, learned.model.neighbour_logit) == ("learned:81", logit)
    sudoku = ours.with_positions("grid:9x9:3x3")
    assert (sudoku.model.positions, sudoku.model.neighbour_logit) == ("grid:9x9:3x3", 0.0)
    assert Recipe.from_dict(sudoku.to_dict()) == sudoku
    with pytest.raises(ValueError, match="no positions"):
        ours.with_positions("spiral")


def test_changes_go_to_the_model_or_to_the_training_and_nowhere_else():
    before = preset("tiny", 9)
    after = before.with_changes(width=24, heads=3, num_steps=7)
    assert after.model == dataclasses.replace(before.model, width=24, heads=3)
    assert after.training == dataclasses.replace(before.training, num_steps=7)
    with pytest.raises(TypeError, match="wdith"):
        before.with_changes(wdith=3)


def test_json_keeps_every_digit_of_a_recipe():
    recipe = preset("tiny", 9).with_changes(
        learning_rate=0.1 + 0.2, ema_decay=1 - 1e-16, law=Mixture(Masks(), TokenLogNormal(1 / 3))
    )
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("damage", [
    lambda v: v["training"].pop("law"),
    lambda v: v["training"].update(law={"law": "Masks", "share": 0.5}),
    lambda v: v["training"].update(law={"law": ["Masks"]}),
    lambda v: v["training"].update(momentum=0.9),
    lambda v: v["model"].pop("vocabulary_size"),
    lambda v: v["model"].update(width=17),
    lambda v: v.update(model=None),
    lambda v: v.pop("preset"),
])  # fmt: skip
def test_a_damaged_recipe_is_an_error_of_one_sentence(damage):
    values = json.loads(json.dumps(preset("tiny", 9).to_dict()))
    damage(values)
    with pytest.raises(ValueError, match=r".{20,}") as raised:
        Recipe.from_dict(values)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("change", [{"law": "TokenLogNormal"}, {"length": "16"}, {"seed": None}])
def test_a_value_of_a_wrong_kind_is_a_damaged_recipe_too(change):
    values = json.loads(json.dumps(preset("tiny", 9).to_dict()))
    values["training"].update(change)
    with pytest.raises(ValueError, match="recipe"):
        Recipe.from_dict(values)


@pytest.mark.parametrize("name", ["length", "batch_size", "num_steps", "eval_every",
                                  "eval_sequences", "checkpoint_every", "log_every"])  # fmt: skip
def test_counts_start_at_one(name):
    assert getattr(TrainingConfig(**{name: 1}), name) == 1
    with pytest.raises(ValueError, match=name):
        TrainingConfig(**{name: 0})


@pytest.mark.parametrize(("name", "value"), [
    ("seed", -1), ("warmup_steps", -1), ("weight_decay", -0.1), ("weight_decay", math.nan),
    ("learning_rate", 0.0), ("learning_rate", math.nan), ("learning_rate", math.inf),
    ("clip_norm", 0.0), ("beta2", 1.0), ("ema_decay", math.nan), ("ema_decay", -0.1),
])  # fmt: skip
def test_values_that_cannot_train_are_refused(name, value):
    with pytest.raises(ValueError, match=str(value)):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(("name", "value"), [
    ("vocabulary_size", 0), ("width", 0), ("width", 18), ("depth", -1), ("heads", 0),
    ("code_dimension", -2),
])  # fmt: skip
def test_models_that_cannot_be_built_are_refused(name, value):
    with pytest.raises(ValueError, match=str(value)):
        ModelConfig(**{"vocabulary_size": 5, name: value})


def test_a_batch_is_shared_equally_or_not_at_all():
    check_sharing(TrainingConfig(batch_size=6), 3)
    with pytest.raises(ValueError, match="equally by 4 processes"):
        check_sharing(TrainingConfig(batch_size=6), 4)


def test_the_learning_rate_is_warm_up_times_cosine_at_every_step():
    config = TrainingConfig(num_steps=40, warmup_steps=8, learning_rate=0.5)
    for step in range(40):
        cosine = (1 + math.cos(math.pi * step / 40)) / 2
        expected = 0.5 * cosine * ((step + 1) / 8 if step < 8 else 1)
        assert learning_rate(config, step) == pytest.approx(expected, abs=1e-15)
    assert learning_rate(config, 40) == 0
    at_once = dataclasses.replace(config, warmup_steps=0)
    assert learning_rate(at_once, 0) == 0.5


@pytest.mark.parametrize("name", PRESETS)
def test_matrices_are_decayed_and_vectors_and_scalars_are_not(name):
    recipe = preset(name, 7).with_changes(width=24, depth=1, heads=2, weight_decay=0.07)
    model = LocalizationModel(recipe.model)
    decay = {
        id(p): group["weight_decay"]
        for group in make_optimizer(model, recipe.training).param_groups
        for p in group["params"]
    }
    for parameter_name, parameter in model.named_parameters():
        expected = 0.07 if parameter.ndim == 2 else 0.0
        assert decay[id(parameter)] == expected, parameter_name


@pytest.mark.parametrize("config", [ModelConfig(5, 16, 1, 2, mask_slot=True),
                                    ModelConfig(5, 16, 1, 2, code_dimension=3)])  # fmt: skip
def test_one_update_moves_every_parameter_and_its_average(config):
    torch.manual_seed(0)
    model = LocalizationModel(config)
    torch.nn.init.normal_(model.head)
    optimizer, average = make_optimizer(model, TrainingConfig()), AveragedWeights(model, 0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tokens = torch.randint(0, 5, (4, 6), generator=generator(0))
    model.token_nats(tokens, torch.full((4, 6), 2.0), None, generator(1)).nats.mean().backward()
    optimizer.step()
    average.update(0)
    for (name, p), averaged in zip(model.named_parameters(), average.averages, strict=True):
        assert not torch.equal(p, before[name]), name
        torch.testing.assert_close(averaged, 0.1 * before[name] + 0.9 * p, msg=name)


def test_an_average_is_put_back_even_if_the_block_fails():
    module = torch.nn.Linear(2, 1)
    kept = module.weight.detach().clone()
    average = AveragedWeights(module, 0.9)
    torch.nn.init.ones_(average.averages[0])
    with pytest.raises(KeyError), average.in_place():
        assert (module.weight == 1).all()
        raise KeyError
    assert torch.equal(module.weight, kept)
    assert (average.averages[0] == 1).all()


def test_generators_of_different_numbers_are_different_streams():
    def first(*seeds):
        return torch.rand(2, generator=seeded_generator(torch.device("cpu"), *seeds)).tolist()

    names = [
        (), (0,), (0, 0), (0, 0, 0), (0, 0, 1), (0, 1, 0), (1,), (1, 0), (1, 0, 0), (0, 1), (10,),
        (2**32,), (2**32, 0), (2**63 - 1, 0), (2**63 - 1, 1), (2**64,), (12, 3), (1, 23), (123,),
    ]  # fmt: skip
    streams = [tuple(first(*name)) for name in names]
    assert tuple(first(0, 1, 0)) == streams[5]
    assert len(set(streams)) == len(names)


def test_endpoints_leave_the_other_tokens_as_the_inner_law_drew_them():
    inside = TokenLogNormal()
    snr, inner = Endpoints(inside).draw(20, 30, generator(4)), inside.draw(20, 30, generator(4))
    kept = (snr > 0) & snr.isfinite()
    assert 100 < int(kept.sum()) < 500
    assert torch.equal(snr[kept], inner[kept])


def test_the_share_that_masks_know_is_stratified_over_the_batch():
    # 64 strata of 20,000 tokens: a share errs by at most 4 · 0.0036 from its stratum.
    share = Masks().draw(64, 20_000, generator(0)).isinf().double().mean(-1).sort().values
    low = torch.arange(64, dtype=torch.float64) / 64
    assert (share > low - 0.016).all()
    assert (share < low + 1 / 64 + 0.016).all()


def test_the_order_of_the_strata_is_random():
    orders = [SentenceLogNormal().draw(50, 1, generator(s))[:, 0].argsort() for s in range(2)]
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], torch.arange(50))


@pytest.mark.parametrize(("share", "rows"), [(0.0, 0), (0.3, 3), (1.0, 10)])
def test_a_mixture_follows_each_law_with_its_share_of_rows(share, rows):
    snr = Mixture(Masks(), SentenceLogNormal(), share).draw(10, 40, generator(1))
    assert int(((snr > 0) & snr.isfinite()).all(-1).sum()) == rows


def test_a_batch_of_one_token_and_extreme_laws_stay_in_range():
    for law in (TokenLogNormal(0.0, 1e3), SentenceLogNormal(700.0, 30.0), Endpoints(Masks())):
        snr = law.draw(1, 1, generator(0))
        assert snr.shape == (1, 1)
        assert (snr >= 0).all()


def test_json_values_are_plain():
    law = Mixture(Endpoints(TokenLogNormal(0.25, 2.0)), Masks(), 0.125)
    assert law_to_dict(law) == {
        "law": "Mixture",
        "first": {"law": "Endpoints",
                  "inside": {"law": "TokenLogNormal", "mean": 0.25, "sigma": 2.0}},
        "second": {"law": "Masks", "least": 0.0, "most": 1.0},
        "share": 0.125,
    }  # fmt: skip
    assert law_from_dict(law_to_dict(law)) == law
