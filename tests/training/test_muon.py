"""Muon takes orthogonal steps with linear layers' weights, and leaves all else to AdamW."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from stochloc.nn import Backbone, LocalizationModel
from stochloc.training.checkpoint import Checkpoint
from stochloc.training.choices import OURS
from stochloc.training.loop import train
from stochloc.training.optimizers import make_optimizer, moments
from stochloc.training.recipes import PRESETS, Recipe, TrainingConfig, preset
from stochloc.training.texts import Texts
from stochloc.training.trainer import Trainer

RATE = 1e-2
MUON = TrainingConfig(
    length=8, batch_size=2, num_steps=4, eval_every=4, eval_sequences=2, optimizer="muon",
    weight_decay=0.0, learning_rate=RATE,
)  # fmt: skip


class Network(nn.Module):
    """A tall and a wide linear layer, and parameters of all other kinds."""

    def __init__(self):
        super().__init__()
        self.tall, self.wide = nn.Linear(6, 20), nn.Linear(20, 5, bias=False)
        self.codebook = nn.Parameter(torch.randn(7, 6))
        self.norm, self.scale = nn.LayerNorm(6), nn.Parameter(torch.ones(()))


def stepped(config, updates=3):
    """Return a network before and after some updates by gradients that are always the same ones."""
    torch.manual_seed(0)
    model = Network()
    before = {name: own.detach().clone() for name, own in model.named_parameters()}
    optimizer = make_optimizer(model, config)
    for update in range(updates):
        noise = torch.Generator().manual_seed(update)
        for own in model.parameters():
            own.grad = torch.randn(own.shape, generator=noise)
            if own.ndim == 2:  # Directions whose gradients differ a thousandfold.
                own.grad *= torch.logspace(0, -3, own.shape[1])
        optimizer.step()
    return model, before, optimizer


@pytest.mark.parametrize("name", ["tall.weight", "wide.weight"])
def test_a_step_turns_by_one_length_in_every_direction_whatever_the_gradients_there(name):
    model, before, _ = stepped(MUON, updates=1)
    step = (model.get_parameter(name) - before[name]) / RATE
    lengths = torch.linalg.svdvals(step.detach()) / (0.2 * math.sqrt(max(step.shape)))
    assert float(lengths.max()) < 1.3
    # Five iterations in bfloat16 leave the weakest directions, of a thousandth, behind.
    assert int((lengths > 0.6).sum()) >= len(lengths) - 1


def test_a_step_descends_along_the_gradient_of_every_linear_layer():
    model, before, _ = stepped(MUON, updates=1)
    for name in ("tall.weight", "wide.weight"):
        own = model.get_parameter(name)
        assert own.grad is not None
        assert float(((own - before[name]) * own.grad).detach().sum()) < 0


def test_all_parameters_but_linear_layers_weights_step_as_by_adamw():
    ours, _, _ = stepped(MUON)
    theirs, _, _ = stepped(dataclasses.replace(MUON, optimizer="adamw"))
    for (name, own), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        is_linear = name in ("tall.weight", "wide.weight")
        assert torch.equal(own, other) != is_linear, name


def test_the_learning_rate_of_every_group_is_that_of_the_schedule():
    model, before, optimizer = stepped(MUON, updates=1)
    after = {name: own.detach().clone() for name, own in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for name, own in model.named_parameters():
        assert torch.equal(own, after[name])
        assert not torch.equal(own, before[name])


def test_weight_decay_shrinks_matrices_alone_and_by_the_rate():
    plain, _, _ = stepped(MUON, updates=1)
    decayed, before, _ = stepped(dataclasses.replace(MUON, weight_decay=0.5), updates=1)
    for (name, own), other in zip(decayed.named_parameters(), plain.parameters(), strict=True):
        shrunk = 0.5 * RATE * before[name] if own.ndim == 2 else torch.zeros(())
        torch.testing.assert_close(other - own, shrunk.expand_as(own), atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_state_of_an_optimizer_has_the_shapes_that_checkpoints_are_compared_with(optimizer):
    config = dataclasses.replace(MUON, optimizer=optimizer)
    model, _, made = stepped(config)
    held = {
        name: {key: value.shape for key, value in made.state[own].items()}
        for name, own in model.named_parameters()
    }
    assert held == moments(model, config)


def test_a_state_that_is_loaded_takes_the_same_steps_on():
    model, _, optimizer = stepped(MUON)
    loaded, _, other = stepped(MUON, updates=0)
    loaded.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for network, own in ((model, optimizer), (loaded, other)):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        own.step()
    for one, same in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(one, same)


def a_run(folder, freeze=()):
    tokens = np.arange(200) % 5
    model = OURS.model(5, Backbone(width=16, depth=2, heads=2))
    recipe = Recipe("own", model, dataclasses.replace(MUON, law=OURS.law), freeze)
    folder.mkdir()
    texts = Texts(tokens, tokens, lambda model: "")
    return Trainer(Fabric(accelerator="cpu", devices=1), recipe, texts, folder)


def test_a_run_that_is_cut_and_resumed_ends_at_the_weights_of_one_that_was_not(tmp_path):
    whole = train(a_run(tmp_path / "whole"))
    cut = a_run(tmp_path / "cut")
    for _ in range(2):
        cut.update()
    cut.save()
    kept = Checkpoint.read(cut.folder)
    assert kept is not None
    resumed = train(Trainer.resumed(cut.fabric, cut.recipe, cut.texts, cut.folder, kept))
    for one, same in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, same)


FROZEN = [("transformer",), ("transformer", "embeddings"), ("embeddings",)]


@pytest.mark.parametrize("frozen", FROZEN)
def test_whatever_is_frozen_the_rest_learns_and_a_run_that_is_cut_resumes(tmp_path, frozen):
    cut = a_run(tmp_path / "frozen", freeze=frozen)
    before = {name: own.clone() for name, own in cut.model.state_dict().items()}
    cut.update()
    cut.save()
    kept = Checkpoint.read(cut.folder)
    assert kept is not None
    after = train(Trainer.resumed(cut.fabric, cut.recipe, cut.texts, cut.folder, kept))
    for name, _ in after.named_parameters():
        stays = name.split(".")[0] in frozen
        assert torch.equal(before[name], after.state_dict()[name]) == stays, name


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_an_optimizer_that_can_be_made(name):
    recipe = preset(name, 5).with_changes(width=16, depth=2, heads=2)
    model = LocalizationModel(recipe.model)
    taken = {id(own) for g in make_optimizer(model, recipe.training).param_groups
             for own in g["params"]}  # fmt: skip
    assert taken == {id(own) for own in model.parameters()}
