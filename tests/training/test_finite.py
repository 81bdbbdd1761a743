"""An update that is not finite changes nothing, is told of later, and nobody waits to know."""

import math
from contextlib import nullcontext

import pytest
import torch
from waits import Waits

from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.training.ema import AveragedWeights
from stochloc.training.finite import NEVER, FirstFailure, first_failed
from stochloc.training.objective import cross_entropy_in_parts, shown
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import PRESETS, TrainingConfig
from stochloc.training.update import OneProcess, Updates, as_one_part

CPU = torch.device("cpu")
CONFIG = TrainingConfig(length=6, batch_size=4, num_steps=20)


class Given:
    """The same tokens in every update."""

    def of(self, update):
        return torch.arange(24).view(4, 6) % 5


def failing(at, factor, optimizer=None):
    """Updates of which the one numbered `at` has a loss times `factor`; and the watch."""
    torch.manual_seed(0)
    module = torch.nn.Linear(5, 5)
    optimizer = make_optimizer(module, CONFIG) if optimizer is None else optimizer(module)
    watch = FirstFailure(optimizer, False, CPU)
    calls = []

    def loss(tokens, generator):
        calls.append(tokens)
        hidden = module(torch.eye(5)[tokens])
        value = torch.nn.functional.cross_entropy(hidden.transpose(1, 2), tokens)
        return factor(value) if len(calls) == at + 1 else value

    average = AveragedWeights(module, 0.9)
    engine = OneProcess(CPU)
    own = Updates(engine, module, optimizer, average, CONFIG, Given(), as_one_part(loss), watch)
    return own, watch


def everything(updates):
    """Weights, averages, and the optimizer's moments and counts."""
    moments = [value for state in updates.optimizer.state.values() for value in state.values()]
    kept = [*updates.module.parameters(), *updates.average.averages, *moments]
    return [tensor.detach().clone() for tensor in kept]


def hooked(loss):
    loss.register_hook(lambda gradient: gradient * math.inf)
    return loss * 1.0


FACTORS = {
    "nan": lambda loss: loss * math.nan,
    "inf": lambda loss: loss * math.inf,
    "a constant without gradient": lambda loss: loss + math.inf,
    "gradient": lambda loss: hooked(loss * 1.0),
}
OPTIMIZERS = {
    "fused": None,
    "another": lambda module: torch.optim.Adagrad(module.parameters(), lr=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("what", FACTORS)
def test_weights_moments_and_averages_stay_those_before_the_first_update_that_is_not_finite(
    what, optimizer
):
    own, watch = failing(3, FACTORS[what], OPTIMIZERS[optimizer])
    for step in range(3):
        own.update(step)
    before = everything(own)
    assert first_failed(watch, lambda value, _: value) is None
    for step in range(3, 6):  # the last ones have finite losses, and are skipped too
        own.update(step)
    assert all(map(torch.equal, everything(own), before))
    assert first_failed(watch, lambda value, _: value) == 3
    assert bool(watch.loss.isfinite()) == (what == "gradient")
    assert not watch.norm.isfinite()


def test_watching_changes_no_bit_of_updates_that_are_finite():
    watched, _ = failing(NEVER, None)
    other, _ = failing(NEVER, None)
    other = Updates(*[getattr(other, name) for name in (
        "engine", "module", "optimizer", "average", "config", "windows", "parts")])  # fmt: skip
    for step in range(4):
        assert torch.equal(watched.update(step), other.update(step))
    assert all(map(torch.equal, everything(watched), everything(other)))


def test_an_update_of_a_fused_optimizer_reads_no_number_from_the_device():
    own, watch = failing(2, FACTORS["nan"])
    own.update(0)
    with Waits() as waits:
        for step in range(1, 4):
            own.update(step)
        assert waits.seen == []
        assert first_failed(watch, lambda value, _: value) == 2
    assert waits.seen == ["_local_scalar_dense"]
    another, _ = failing(2, FACTORS["nan"], OPTIMIZERS["another"])
    with Waits() as waits:
        another.update(0)
    assert "_local_scalar_dense" in waits.seen


@pytest.mark.parametrize("preset", ["tiny", "puzzle"])
@pytest.mark.parametrize("is_ragged", [False, True])
def test_losses_and_gradients_can_be_computed_without_a_look_at_their_numbers(
    preset, is_ragged, monkeypatch
):
    """On the device "meta" tensors have no numbers, whoever reads one fails, and no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    recipe = PRESETS[preset](9).with_changes(width=16, depth=2, heads=2)
    with torch.device("meta"):
        model = LocalizationModel(recipe.model)
    optimizer = make_optimizer(model, CONFIG, is_fused=False)
    watch = FirstFailure(optimizer, True, torch.device("meta"))
    tokens = torch.arange(24).view(4, 6) % 9
    tokens[0, 4:] = -1 if is_ragged else 0
    batch = shown(tokens, recipe.training.law, torch.Generator().manual_seed(0), 0, 8)
    is_full = batch.is_full
    assert all(is_full) == (not is_ragged)
    batch = type(batch)(*[None if x is None else x.to("meta") for x in (
        batch.tokens, batch.left, batch.right)], is_full)  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for part in cross_entropy_in_parts(model, model.is_target, batch, generator, 2):
        loss = part()
        watch.weighed(loss).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert watch.judge(loss.detach(), norm, 3)
    assert loss.is_meta
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(loss)


def test_a_large_vocabulary_waits_where_known_tokens_are_left_out():
    """What the documentation says of it: the places that are asked about are looked up."""
    model = LocalizationModel(ModelConfig(1500, 16, 1, 2, code_dimension=4))
    batch = shown(Given().of(0), CONFIG.law, torch.Generator().manual_seed(0))
    (part,) = cross_entropy_in_parts(model, model.is_target, batch, torch.Generator(), 1)
    with Waits() as waits:
        part()
    assert waits.seen
