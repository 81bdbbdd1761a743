"""Localization in the frame of all methods: its recipes, and their bounds before training."""

from dataclasses import replace

import torch
from methods.worlds import LENGTH, TINY, assert_estimates, every_sequence, generator

from stochloc.core import Diffusion, Masked
from stochloc.methods import METHODS, Frame
from stochloc.methods.localization import Localization
from stochloc.nn import TWO_SIDED
from stochloc.training.choices import OURS, PAPER, SEEING, SHOWN
from stochloc.training.objective import cross_entropy
from stochloc.training.recipes import preset
from stochloc.training.snr import (
    Endpoints,
    IndependentSides,
    LeftToRight,
    Masks,
    SentenceLogNormal,
    TokenLogNormal,
)

COUNTS = torch.tensor([60, 30, 7])


def of(name: str) -> Localization:
    torch.manual_seed(0)
    method = METHODS[name](Frame(COUNTS, LENGTH, TINY))
    assert isinstance(method, Localization)
    return method


def test_the_recipes_are_those_of_the_training_presets():
    ours, paper = of("dsl"), of("dsl-paper")
    settings = ("code_dimension", "evidence", "unigram", "beta", "mask_slot")
    for method, names in ((ours, ("tiny", "small", "text8")), (paper, ("text8-paper",))):
        for name in names:
            recipe = preset(name, len(COUNTS))
            assert method.law == recipe.training.law
            for setting in settings:
                assert getattr(method.model.config, setting) == getattr(recipe.model, setting)
    # Absolute values too, from the README and the paper: presets and methods might change together.
    assert ours.law == LeftToRight(Endpoints(TokenLogNormal()), 0.0, 0.0, 9 / 16, 0.5)
    assert paper.law == SentenceLogNormal()
    assert isinstance(ours.path, Masked)
    assert isinstance(paper.path, Diffusion)
    ours_say, paper_says = (
        [getattr(method.model.config, name) for name in settings] for method in (ours, paper)
    )
    assert ours_say == [0, True, True, 1.0, False]
    assert paper_says == [16, False, False, 0.0, False]


def test_every_ablation_changes_one_choice():
    shared = SentenceLogNormal(TokenLogNormal.mean, TokenLogNormal.sigma)
    for name, changed in {
        "dsl-learned-codes": "code_dimension", "dsl-no-evidence": "evidence",
        "dsl-no-prior": "unigram", "dsl-paper-beta": "beta",
    }.items():  # fmt: skip
        ablated, ours = of(name), of("dsl-encoder")
        different = {
            key
            for key, value in vars(ablated.model.config).items()
            if value != getattr(ours.model.config, key)
        }
        assert different == {changed}
        assert getattr(ablated.model.config, changed) == getattr(PAPER, changed)
        assert ablated.law == SEEING.law
    assert of("dsl-shared-snr").law == Endpoints(shared)
    assert of("dsl-masks-only").law == Masks()
    assert of("dsl-no-endpoints").law == TokenLogNormal()


def test_every_ablation_of_the_two_sided_recipe_changes_the_states_it_is_shown_and_nothing_else():
    laws = {
        "dsl-no-left-to-right": SHOWN,
        "dsl-independent-sides": IndependentSides(SHOWN),
        "dsl-two-sided-masks-only": LeftToRight(Masks(), 0.0, 0.0, 9 / 16, 0.5),
    }
    for name, law in laws.items():
        assert of(name).model.config == of("dsl").model.config
        assert of(name).law == law
        assert law != OURS.law


def test_mostly_left_is_ours_on_another_network_of_as_many_parameters():
    ours, other = of("dsl"), of("dsl-mostly-left")
    assert replace(other.model.config, architecture=TWO_SIDED) == ours.model.config
    assert other.law == ours.law
    assert other.model.num_parameters == ours.model.num_parameters


def test_the_loss_of_an_untrained_model_without_evidence_is_the_cross_entropy_of_the_prior():
    method = of("dsl-no-evidence")
    tokens = every_sequence().repeat(20, 1)
    prior = ((COUNTS + 1) / (COUNTS + 1).sum()).log()
    losses = torch.stack([method.loss(tokens, generator(s)).detach() for s in range(40)])
    # Tokens are uniformly distributed here; known ones are left out of the loss.
    assert_estimates(losses.double(), float(-prior.double().mean()))
    again = cross_entropy(method.model, tokens, method.law, generator(3))
    torch.testing.assert_close(method.loss(tokens, generator(3)), again)
