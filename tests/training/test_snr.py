"""The laws of γ, the objective, the recipes, the average and the schedule."""

import dataclasses
import itertools
import json
import math

import pytest
import torch

from stochloc.core import SimplexCodebook, observe
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.training.ema import AveragedWeights
from stochloc.training.objective import cross_entropy
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import PRESETS, Recipe, preset
from stochloc.training.schedule import learning_rate
from stochloc.training.snr import (
    Endpoints,
    LeftToRight,
    Masks,
    Mixture,
    SentenceLogNormal,
    TokenLogNormal,
    law_from_dict,
    law_to_dict,
    stratified,
)

LAWS = [
    SentenceLogNormal(),
    TokenLogNormal(),
    Endpoints(TokenLogNormal(0.5, 1.0)),
    Masks(),
    Masks(0.25, 0.5),
    Mixture(SentenceLogNormal(), Endpoints(TokenLogNormal()), 0.25),
]


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_law_gives_a_snr_to_every_token_and_survives_json(law):
    snr = law.draw(8, 5, generator(0))
    assert snr.shape == (8, 5)
    assert (snr >= 0).all()
    assert torch.equal(snr, law.draw(8, 5, generator(0)))
    assert law_from_dict(json.loads(json.dumps(law_to_dict(law)))) == law


def test_log_normal_laws_are_stratified_quantiles_of_the_log_normal():
    for law, values in (
        (SentenceLogNormal(), SentenceLogNormal().draw(500, 3, generator(0))[:, 0]),
        (TokenLogNormal(), TokenLogNormal().draw(50, 10, generator(0)).flatten()),
    ):
        u = torch.special.ndtr((values.log() - law.mean) / law.sigma).sort().values
        assert torch.equal((u * 500).long(), torch.arange(500))


def test_a_sentence_law_gives_one_snr_per_sentence_and_a_token_law_many():
    assert (SentenceLogNormal().draw(4, 9, generator(0)).diff(dim=1) == 0).all()
    assert (TokenLogNormal().draw(4, 9, generator(0)).diff(dim=1) != 0).all()


def test_endpoints_move_a_uniform_share_and_a_uniform_part_of_it_to_infinity():
    # 4,000 sequences of 400: the means of uniforms are known to 0.005; 6 errors are allowed.
    snr = Endpoints(TokenLogNormal()).draw(4000, 400, generator(0))
    at_zero, known = (snr == 0).double().mean(-1), snr.isinf().double().mean(-1)
    moved = at_zero + known
    assert abs(float(moved.mean()) - 0.5) < 0.03
    assert abs(float(moved.var()) - 1 / 12) < 0.01
    assert abs(float(known.mean()) - 0.25) < 0.03
    part = known / moved
    assert abs(float(part[moved > 0.1].var()) - 1 / 12) < 0.02


def test_masks_leave_nothing_between_and_know_a_uniform_share():
    snr = Masks().draw(1000, 400, generator(0))
    assert ((snr == 0) | snr.isinf()).all()
    share = snr.isinf().double().mean(-1)
    assert abs(float(share.var()) - 1 / 12) < 0.01


def test_masks_of_a_range_know_a_share_uniform_in_it():
    # Of 10,000 tokens a share is off by 0.005; 6 errors are allowed.
    share = Masks(0.2, 0.5).draw(1000, 10_000, generator(0)).isinf().double().mean(-1).sort().values
    expected = 0.2 + 0.3 * (torch.arange(1000) + 0.5) / 1000
    assert float((share - expected).abs().max()) < 0.03


def test_a_mixture_gives_each_law_its_share_of_the_rows():
    snr = Mixture(SentenceLogNormal(), Masks(), 0.25).draw(400, 50, generator(0))
    assert int(((snr == 0) | snr.isinf()).all(-1).sum()) == 100


def test_every_direction_of_reading_gets_its_share_and_leaves_the_other_side_to_the_law():
    law = LeftToRight(TokenLogNormal(), 1 / 8, 2 / 8, 3 / 8)
    left, right, alone = law.draw_sides(16, 7, generator(0))
    assert alone is None
    inside = law.inside.draw(16, 7, generator(0))
    rows = {
        "to the right": ((left.isinf() & (right == 0)).all(1), 2),
        "to the left": (((left == 0) & right.isinf()).all(1), 4),
        "left known": ((left.isinf() & (right == inside)).all(1), 6),
        "both": (((left == inside) & (right == inside)).all(1), 4),
    }
    assert {name: int(which.sum()) for name, (which, _) in rows.items()} == {
        name: num for name, (_, num) in rows.items()
    }
    assert (torch.stack([which for which, _ in rows.values()]).sum(0) == 1).all()
    assert law_from_dict(json.loads(json.dumps(law_to_dict(law)))) == law


def test_a_run_from_before_the_left_alone_could_be_known_draws_what_it_drew():
    law = law_from_dict({"law": "LeftToRight", "inside": law_to_dict(TokenLogNormal()),
                         "share": 0.25, "mirrored_share": 0.25})  # fmt: skip
    left, right, alone = law.draw_sides(8, 5, generator(3))
    assert alone is None
    source = generator(3)
    inside, u = TokenLogNormal().draw(8, 5, source), stratified((8, 1), source)
    forwards, backwards = u < 0.25, (u >= 0.25) & (u < 0.5)
    assert torch.equal(left, inside.masked_fill(forwards, torch.inf).masked_fill(backwards, 0))
    assert torch.equal(right, inside.masked_fill(forwards, 0).masked_fill(backwards, torch.inf))


def test_sequences_with_a_known_left_and_no_others_are_asked_for_given_that_left_alone():
    law = LeftToRight(TokenLogNormal(), 1 / 8, 2 / 8, 3 / 8, 0.25)
    left, right, alone = law.draw_sides(16, 7, generator(0))
    without = dataclasses.replace(law, alone_weight=0.0).draw_sides(16, 7, generator(0))
    assert torch.equal(left, without.left) and torch.equal(right, without.right)
    is_known = left.isinf().all(1) & (right > 0).all(1)
    assert torch.equal(alone, torch.where(is_known, 0.25, 0.0))
    assert int(is_known.sum()) == 6
    assert law_from_dict(json.loads(json.dumps(law_to_dict(law)))) == law


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="one side alone needs a weight of at least 0"):
        LeftToRight(TokenLogNormal(), 0.0, 0.0, 0.5, weight)


@pytest.mark.parametrize("shares", [(-0.1,), (0.5, -0.1), (0.5, 0.0, -0.1), (0.5, 0.3, 0.3)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="The shares of sequences that know one side"):
        LeftToRight(TokenLogNormal(), *shares)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: TokenLogNormal(sigma=0.0),
        lambda: Mixture(Masks(), Masks(), 2.0),
        lambda: Masks(0.5, 0.5),
        lambda: Masks(-0.1, 0.5),
        lambda: Masks(0.5, 1.1),
        lambda: Masks(float("nan")),
        lambda: law_from_dict({"law": "Nonsense"}),
        lambda: preset("huge", 5),
        lambda: preset("tiny", 5).with_changes(num_steps=0),
        lambda: preset("tiny", 5).with_changes(learning_rate=-1.0),
        lambda: preset("tiny", 5).with_changes(ema_decay=1.0),
        lambda: Recipe.from_dict({"preset": "tiny"}),
    ],
)
def test_a_mistake_is_refused_with_one_clear_sentence(mistake):
    with pytest.raises(ValueError, match=r".{20,}") as raised:
        mistake()
    assert "\n" not in str(raised.value)


def test_the_objective_is_the_mean_cross_entropy_of_the_uncertain_tokens():
    model = LocalizationModel(ModelConfig(5, 16, 1, 2, beta=1.0))
    torch.nn.init.normal_(model.head)
    tokens = torch.randint(0, 5, (6, 9), generator=generator(1))
    loss = cross_entropy(model, tokens, Endpoints(TokenLogNormal()), generator(2))
    again = generator(2)
    snr = Endpoints(TokenLogNormal()).draw(6, 9, again)
    state = observe(SimplexCodebook(5), tokens, snr, again)
    nats = -model(state).log_prob(tokens)
    torch.testing.assert_close(loss, nats[snr.isfinite()].mean())
    assert snr.isinf().any()


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_is_in_the_optimiser_once_and_in_the_average(name):
    recipe = preset(name, 7).with_changes(width=24, depth=2, heads=2)
    model = LocalizationModel(recipe.model)
    optimizer = make_optimizer(model, recipe.training)
    optimised = [id(p) for group in optimizer.param_groups for p in group["params"]]
    averaged = [id(p) for p in AveragedWeights(model, 0.9).parameters]
    expected = sorted(id(p) for p in model.parameters())
    assert sorted(optimised) == expected
    assert sorted(averaged) == expected
    assert {"beta", "embeddings", "head"} <= {name for name, _ in model.named_parameters()}


def test_the_average_follows_its_formula_and_swaps_in_and_out():
    module = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average, expected = AveragedWeights(module, 0.5), 0.0
    for step in range(12):
        torch.nn.init.constant_(module.weight, step + 1.0)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    with average.in_place():
        torch.testing.assert_close(module.weight, torch.full((1, 2), expected))
    assert (module.weight == 12).all()


def test_the_learning_rate_warms_up_and_falls_to_zero_along_a_cosine():
    config = preset("tiny", 5).with_changes(num_steps=1000, warmup_steps=10).training
    rates = [learning_rate(config, step) / config.learning_rate for step in range(1000)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) > 0.99
    assert rates[500] == pytest.approx(0.5)
    assert rates[999] < 1e-4
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_the_papers_preset_is_the_paper_to_the_letter():
    recipe = preset("text8-paper", 27)
    model, training = recipe.model, recipe.training
    assert (model.depth, model.heads, model.width, training.length) == (12, 12, 768, 256)
    assert model.code_dimension == 16
    assert not (model.evidence or model.unigram or model.mask_slot)
    assert model.beta == 0
    tiny_one = LocalizationModel(recipe.with_changes(width=24, depth=1).model)
    assert tiny_one.beta.item() == 1 / math.sqrt(16)
    assert training.law == SentenceLogNormal(1.4, 0.55)
    assert (training.batch_size, training.learning_rate) == (512, 3e-4)
    assert (training.weight_decay, training.warmup_steps) == (0.03, 2000)
    assert preset("text8", 27).model.evidence


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_survives_json(name):
    recipe = preset(name, 27)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
