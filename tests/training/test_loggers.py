"""Metrics shown elsewhere are those of metrics.jsonl, and a missing package is told at once."""

import json
import time
from importlib.util import find_spec

import numpy as np
import pytest
from lightning_fabric import Fabric

from stochloc.nn import ModelConfig
from stochloc.training.checkpoint import Checkpoint
from stochloc.training.loggers import LOGGERS, check_loggers, opened_loggers
from stochloc.training.loggers.base import numbers_in
from stochloc.training.loop import train
from stochloc.training.metrics import METRICS
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.texts import Texts
from stochloc.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore")


def needs(name):
    absent = find_spec(LOGGERS[name].package) is None
    return pytest.mark.skipif(absent, reason=f"{name} is not installed")


class Noting:
    """A logger that keeps what it is shown."""

    package = "json"

    def __init__(self):
        self.records, self.opened, self.closed = [], [], 0

    def open(self, folder, description, step):
        self.opened.append((folder, description, step))
        return self

    def log(self, record):
        self.records.append(record)

    def close(self):
        self.closed += 1


def recipe(num_steps=4):
    training = TrainingConfig(
        length=6, batch_size=2, num_steps=num_steps, eval_every=2, eval_sequences=2, log_every=1,
        checkpoint_every=2,
    )  # fmt: skip
    return Recipe("test", ModelConfig(3, 8, 1, 2), training)


def run(folder, names, num_steps=4):
    tokens = np.random.default_rng(0).integers(0, 3, 200)
    own, texts = recipe(num_steps), Texts(tokens, tokens, lambda model: "a sample")
    parts = Fabric(accelerator="cpu", devices=1), own, texts, folder
    kept = Checkpoint.read(folder)
    trainer = Trainer(*parts) if kept is None else Trainer.resumed(*parts, kept)
    with opened_loggers(names, folder, own.to_dict(), trainer.step) as loggers:
        train(trainer, loggers)


def records(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_a_logger_is_shown_every_line_of_metrics_once_and_closed(tmp_path, monkeypatch):
    noting = Noting()
    monkeypatch.setitem(LOGGERS, "noting", noting)
    run(tmp_path, ("noting", "noting"))
    assert noting.records == records(tmp_path)
    assert noting.opened == [(tmp_path, recipe().to_dict(), 0)]
    assert noting.closed == 1


def test_a_logger_is_closed_when_training_fails(tmp_path, monkeypatch):
    noting = Noting()
    monkeypatch.setitem(LOGGERS, "noting", noting)
    with pytest.raises(OSError, match="gone"), opened_loggers(("noting",), tmp_path, {}, 3):
        raise OSError("gone")
    assert (noting.closed, noting.opened[0][2]) == (1, 3)


def test_a_logger_whose_package_is_missing_is_one_sentence_that_says_what_to_install(monkeypatch):
    for name in LOGGERS:
        monkeypatch.setattr("stochloc.training.loggers.find_spec", lambda package: None)
        with pytest.raises(ValueError, match=rf"pip install 'stochloc\[{name}\]'"):
            check_loggers([name])
    with pytest.raises(ValueError, match="loggers are tensorboard, wandb"):
        check_loggers(["mlflow"])
    check_loggers([])


def test_only_numbers_are_drawn_as_curves():
    record = {"step": 3, "loss": 1, "rate": 0.5, "sample": "x", "stderr": None, "is_best": True}
    assert numbers_in(record) == {"loss": 1.0, "rate": 0.5}


@needs("tensorboard")
def test_event_files_hold_the_metrics_of_a_run_that_was_resumed_each_step_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, ("tensorboard",))
    run(tmp_path, ("tensorboard",), num_steps=6)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name in ("loss_bits", "tokens_per_s", "valid_bits_per_token"):
        told = {line["step"]: line[name] for line in records(tmp_path) if name in line}
        seen = {event.step: event.value for event in events.Scalars(name)}
        assert seen == pytest.approx(told, rel=1e-6), name
        assert len(events.Scalars(name)) == len(told)
    assert "sample/text_summary" in events.Tags()["tensors"]


@needs("wandb")
@pytest.mark.slow
def test_a_run_of_weights_and_biases_is_written_offline_and_goes_on_under_its_name(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(tmp_path, ("wandb",))
    run(tmp_path, ("wandb",), num_steps=6)
    identity = (tmp_path / "wandb-id.txt").read_text()
    files = list((tmp_path / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb"))
    assert len(files) == 2
    # A process of its own writes them, and may be behind.
    deadline = time.monotonic() + 60
    while not all(b"valid_bits_per_token" in file.read_bytes() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.1)
