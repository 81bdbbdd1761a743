"""Whole training runs: they learn, they survive being cut off, and they resume bit for bit."""

import json
import math

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from stochloc.core import Masked, line_integral
from stochloc.data import MarkovChain
from stochloc.nn import ModelConfig
from stochloc.training.checkpoint import FILE_NAME, Checkpoint, replacing
from stochloc.training.loop import train
from stochloc.training.metrics import METRICS
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.schedule import learning_rate
from stochloc.training.texts import Texts
from stochloc.training.trainer import Trainer

TIMED = ("elapsed_s", "tokens_per_s")
pytestmark = pytest.mark.filterwarnings("ignore:.*barrier.*", "ignore:.*not a DDP.*")


def recipe(**changes):
    model = ModelConfig(3, width=16, depth=1, heads=2, beta=1.0, rotary_base=10.0)
    config = TrainingConfig(
        length=8, batch_size=4, num_steps=6, warmup_steps=2, eval_every=3, eval_sequences=4,
        checkpoint_every=2, log_every=1,
    )  # fmt: skip
    return Recipe("test", model, config).with_changes(**changes)


def texts():
    rng = np.random.default_rng(0)
    return Texts(rng.integers(0, 3, 400), rng.integers(0, 3, 100), lambda model: "sample")


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def without_time(folder):
    records = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    assert all(0 <= record.get("elapsed_s", 0) < 600 for record in records)
    return [{k: v for k, v in record.items() if k not in TIMED} for record in records]


class Cut(Exception):
    """The run is cut off here."""


@pytest.mark.parametrize("cut_after", [1, 3, 5])
def test_a_run_cut_off_and_resumed_is_bit_identical_to_one_never_cut(
    tmp_path, monkeypatch, cut_after
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    train(Trainer(fabric(), recipe(), texts(), whole))
    update = Trainer.update

    def cut_off(trainer):
        if trainer.step == cut_after:
            raise Cut
        return update(trainer)

    monkeypatch.setattr(Trainer, "update", cut_off)
    with pytest.raises(Cut):
        train(Trainer(fabric(), recipe(), texts(), cut))
    monkeypatch.undo()
    checkpoint = Checkpoint.read(cut)
    start = fabric(), recipe(), texts(), cut
    train(Trainer(*start) if checkpoint is None else Trainer.resumed(*start, checkpoint))
    for name in (FILE_NAME, "model.safetensors"):
        a, b = load_file(whole / name), load_file(cut / name)
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]), key
    assert without_time(whole) == without_time(cut)


def test_metrics_have_a_line_at_every_so_many_updates_and_at_the_last(tmp_path):
    train(Trainer(fabric(), recipe(num_steps=8, log_every=3), texts(), tmp_path))
    told = [line for line in without_time(tmp_path) if "loss_bits" in line]
    assert [line["step"] for line in told] == [3, 6, 8]
    tokens = recipe().training.batch_size * recipe().training.length
    assert [line["tokens"] for line in told] == [3 * tokens, 6 * tokens, 8 * tokens]
    config = recipe(num_steps=8).training
    assert [line["learning_rate"] for line in told] == [
        learning_rate(config, line["step"] - 1) for line in told
    ]
    evaluated = [line["step"] for line in without_time(tmp_path) if "stderr" in line]
    assert evaluated == [3, 6, 8]


def test_a_loss_of_two_bits_is_logged_as_two_bits(tmp_path, monkeypatch):
    update = Trainer.update

    def costly(trainer):
        update(trainer)
        return torch.tensor(math.log(4))

    monkeypatch.setattr(Trainer, "update", costly)
    train(Trainer(fabric(), recipe(), texts(), tmp_path))
    told = [line["loss_bits"] for line in without_time(tmp_path) if "loss_bits" in line]
    assert told == [pytest.approx(2)] * 6


def test_another_seed_gives_other_weights(tmp_path):
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        train(Trainer(fabric(), recipe(num_steps=2, seed=seed), texts(), tmp_path / str(seed)))
    a, b = (load_file(tmp_path / str(seed) / "model.safetensors") for seed in (0, 1))
    assert not torch.equal(a["embeddings"], b["embeddings"])


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(Trainer(fabric(), recipe(num_steps=2), texts(), tmp_path))
    checkpoint = Checkpoint.read(tmp_path)
    assert checkpoint is not None
    del checkpoint.tensors["optimizer.beta.exp_avg"]
    with pytest.raises(ValueError, match="another model"):
        Trainer.resumed(fabric(), recipe(num_steps=2), texts(), tmp_path, checkpoint)


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half_written(tmp_path, monkeypatch):
    train(Trainer(fabric(), recipe(num_steps=2), texts(), tmp_path))
    before = (tmp_path / FILE_NAME).read_bytes()
    checkpoint = Checkpoint.read(tmp_path)
    assert checkpoint is not None

    def full_disk(path, data):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="space"):
        checkpoint.write(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert not list(tmp_path.glob(".*partial"))


def test_a_replaced_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(Cut), replacing(target) as path:
        path.write_text("half")
        raise Cut
    assert target.read_text() == "old"
    with replacing(target) as path:
        path.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("keep", [0, 100, -20])
def test_a_truncated_checkpoint_is_an_error_of_one_sentence(tmp_path, keep):
    train(Trainer(fabric(), recipe(num_steps=2), texts(), tmp_path))
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged"):
        Checkpoint.read(tmp_path)


def test_a_folder_without_a_checkpoint_has_none(tmp_path):
    assert Checkpoint.read(tmp_path) is None


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Fabric, "world_size", 2)
    with pytest.raises(ValueError, match="shared equally"):
        Trainer(fabric(), recipe(batch_size=3), texts(), tmp_path)


@pytest.mark.slow
@pytest.mark.bulk
def test_a_trained_models_bound_comes_down_to_the_exact_entropy_and_never_below(tmp_path):
    """The oracle for training: a Markov chain's exact -log P beside the model's bound."""
    generator = torch.Generator().manual_seed(0)
    initial = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    rows = [[0.9, 0.05, 0.05], [0.1, 0.1, 0.8], [0.05, 0.9, 0.05]]
    chain = MarkovChain(initial, torch.tensor(rows, dtype=torch.float64))
    text = chain.sample(1, 60_000, generator)[0].numpy()
    held_out = Texts(text[:50_000], text[50_000:], lambda model: "")
    changes = {
        "num_steps": 400, "batch_size": 32, "length": 16, "learning_rate": 5e-3, "ema_decay": 0.98,
        "warmup_steps": 20, "eval_every": 400, "checkpoint_every": 400, "width": 32, "depth": 2,
    }  # fmt: skip
    model = train(Trainer(fabric(), recipe(**changes), held_out, tmp_path))
    windows = torch.from_numpy(text[50_000:]).long()[: 600 * 16].view(600, 16)
    estimate = line_integral(model, windows, Masked(), 16, generator)
    # Windows start anywhere in the text, so their first token has the stationary law.
    start = torch.from_numpy(np.bincount(text, minlength=3) / len(text))
    exact = -MarkovChain(start, chain.transition).log_prob(windows)
    gap = estimate.values - exact
    stderr = float(gap.std()) / math.sqrt(len(gap))
    unigram = -float(start[windows].log().sum(-1).mean())
    assert float(gap.mean()) > -4 * stderr
    assert float(gap.mean()) < 0.1 * (unigram - float(exact.mean()))
