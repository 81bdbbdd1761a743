"""One update: the same weights whether Fabric computes it or one process alone."""

import torch
from lightning_fabric import Fabric

from stochloc.data import draw_windows
from stochloc.training.ema import AveragedWeights
from stochloc.training.recipes import TrainingConfig
from stochloc.training.update import OneProcess, Updates, as_one_part
from stochloc.training.windows import SeededWindows

TEXT = torch.arange(400).remainder(7).numpy()


def updates(engine, **more):
    """A linear map that predicts a token from the one before it, under noise."""
    torch.manual_seed(0)
    module, config = torch.nn.Linear(7, 7), TrainingConfig(length=8, batch_size=4, num_steps=20)

    def loss(tokens, generator):
        inputs = torch.nn.functional.one_hot(tokens[:, :-1], 7).float()
        inputs = inputs + 0.1 * torch.randn(inputs.shape, generator=generator)
        return torch.nn.functional.cross_entropy(
            module(inputs).flatten(0, 1), tokens[:, 1:].flatten()
        )

    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    average = AveragedWeights(module, 0.9)
    draw = lambda rows, length, generator: draw_windows(TEXT, rows, length, generator)  # noqa: E731
    windows = SeededWindows(draw, config)
    return Updates(engine, module, optimizer, average, config, windows, as_one_part(loss), **more)


def test_fabric_and_one_process_move_weights_and_averages_alike():
    engines = Fabric(accelerator="cpu", devices=1), OneProcess(torch.device("cpu"))
    own, other = (updates(engine) for engine in engines)
    for step in range(5):
        assert torch.equal(own.update(step), other.update(step))
    for one, same in zip(own.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(one, same)
    assert all(map(torch.equal, own.average.averages, other.average.averages))


def test_an_update_depends_on_the_number_of_updates_before_it_and_on_no_earlier_draw():
    first, later = (updates(OneProcess(torch.device("cpu"))) for _ in range(2))
    torch.rand(1000)
    first.update(0)
    later.done = 1
    later.module.load_state_dict(first.module.state_dict())
    assert torch.equal(first.update(1), later.update(1))


def test_every_update_is_done_when_nobody_watches():
    own = updates(OneProcess(torch.device("cpu")))
    with torch.no_grad():
        next(own.module.parameters()).fill_(torch.nan)
    assert own.update(0).isnan()
    assert own.done == 1
