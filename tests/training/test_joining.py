"""What joins training as one file and one line: a distribution of γ, an optimizer."""

import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric

from stochloc.nn import ModelConfig
from stochloc.training import snr
from stochloc.training.checkpoint import Checkpoint
from stochloc.training.loop import train
from stochloc.training.optimizers import OPTIMIZERS, make_optimizer
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.snr import LAWS, Masks, SnrLaw, law_from_dict, law_to_dict
from stochloc.training.texts import Texts
from stochloc.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*barrier.*", "ignore:.*not a DDP.*")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@dataclass(frozen=True)
class Newcomer:
    """A distribution with an attribute of every kind that a recipe can hold."""

    inside: SnrLaw
    count: int = 3
    is_shared: bool = True
    share: float = 0.5
    name: str = ""
    levels: tuple[float, ...] = ()
    parts: tuple[SnrLaw, ...] = ()

    def draw(self, batch, length, generator):
        return self.inside.draw(batch, length, generator)


def newcomers(inside):
    return st.builds(
        Newcomer, inside, st.integers(), st.booleans(), NUMBERS, st.text(),
        st.lists(NUMBERS).map(tuple), st.lists(inside, max_size=2).map(tuple),
    )  # fmt: skip


@given(st.recursive(st.just(Masks()), newcomers, max_leaves=4))
def test_a_new_law_of_any_attributes_survives_json_as_it_is_and_inside_a_recipe(law):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snr, "LAWS", (*LAWS, Newcomer))
        assert law_from_dict(json.loads(json.dumps(law_to_dict(law)))) == law
        recipe = Recipe("own", ModelConfig(5), TrainingConfig(law=law))
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("wrong", [{"count": 1.5}, {"is_shared": 1}, {"share": True}, {"name": 2}])
def test_a_law_with_an_attribute_of_another_type_is_refused(monkeypatch, wrong):
    monkeypatch.setattr(snr, "LAWS", (*LAWS, Newcomer))
    with pytest.raises(ValueError, match=next(iter(wrong))):
        law_from_dict({**law_to_dict(Newcomer(Masks())), **wrong})


@dataclass(frozen=True)
class Momentum:
    """Gradient descent with momentum."""

    def make(self, groups, linear, learning_rate, beta2, is_fused):
        return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, fused=is_fused)

    def moments(self, shape, is_linear):
        return {"momentum_buffer": shape}


def recipe():
    training = TrainingConfig(
        length=8, batch_size=2, num_steps=4, eval_every=4, eval_sequences=2, optimizer="momentum"
    )
    return Recipe("own", ModelConfig(5, 16, 1, 2), training)


def test_a_new_optimizer_trains_and_its_run_resumes_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "momentum", Momentum())
    tokens = np.arange(200) % 5
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    texts, own = Texts(tokens, tokens, lambda model: ""), recipe()
    whole = train(Trainer(Fabric(accelerator="cpu", devices=1), own, texts, tmp_path / "whole"))
    cut = Trainer(Fabric(accelerator="cpu", devices=1), own, texts, tmp_path / "cut")
    for _ in range(2):
        cut.update()
    cut.save()
    kept = Checkpoint.read(cut.folder)
    assert kept is not None
    resumed = train(Trainer.resumed(cut.fabric, own, texts, cut.folder, kept))
    for one, same in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, same)
    adam = dataclasses.replace(own, training=dataclasses.replace(own.training, optimizer="adamw"))
    with pytest.raises(ValueError, match="another model"):
        Trainer.resumed(cut.fabric, adam, texts, cut.folder, kept)


def test_an_unknown_optimizer_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="no optimizer 'lion'; the optimizers are adamw, muon"):
        make_optimizer(torch.nn.Linear(2, 2), TrainingConfig(optimizer="lion"))


def test_a_recipe_from_before_there_was_a_choice_is_adamws():
    values = recipe().to_dict()
    del values["training"]["optimizer"]
    assert Recipe.from_dict(values).training.optimizer == "adamw"
