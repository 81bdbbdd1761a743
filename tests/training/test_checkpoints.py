"""What a run leaves on disk, however and wherever it is cut off or damaged."""

import json
import math
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stochloc.core import Masked, line_integral
from stochloc.data import held_out_windows
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.training.checkpoint import FILE_NAME, Checkpoint
from stochloc.training.finite import FAILURE
from stochloc.training.loop import train
from stochloc.training.metrics import METRICS
from stochloc.training.objective import cross_entropy
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.seeds import seeded_streams
from stochloc.training.texts import Texts
from stochloc.training.trainer import Trainer

TIMED = ("elapsed_s", "tokens_per_s")
pytestmark = pytest.mark.filterwarnings("ignore:.*barrier.*", "ignore:.*not a DDP.*")
CONFIGS = {
    "simplex": ModelConfig(3, width=8, depth=1, heads=2, beta=1.0, mask_slot=True),
    "learned": ModelConfig(3, 8, 1, 2, code_dimension=2, evidence=False, unigram=False),
}
TRAINING = TrainingConfig(
    length=6, batch_size=4, num_steps=6, warmup_steps=2, eval_every=3, eval_sequences=4,
    checkpoint_every=2, log_every=1,
)  # fmt: skip
NAMES = ("checkpoint.safetensors", "model.safetensors", "config.json", "metrics.jsonl")


class Cut(Exception):
    """The run is cut off here."""


def recipe(config="simplex", **changes):
    return Recipe("test", CONFIGS[config], TRAINING).with_changes(**changes)


def texts():
    rng = np.random.default_rng(0)
    return Texts(rng.integers(0, 3, 400), rng.integers(0, 3, 100), lambda model: "a } sample")


def run(folder, chosen, resume=None):
    folder.mkdir(exist_ok=True)
    parts = (Fabric(accelerator="cpu", devices=1), chosen, texts(), folder)
    return train(Trainer(*parts) if resume is None else Trainer.resumed(*parts, resume))


def contents(folder):
    """All a run wrote, without the times of its metrics and the order of a header's entries."""
    files = {name: (folder / name).read_bytes() for name in NAMES[1:3]}
    with safe_open(folder / FILE_NAME, framework="np") as file:
        files |= {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        files |= file.metadata()
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return files, [{k: v for k, v in line.items() if k not in TIMED} for line in lines]


@pytest.fixture(scope="module", params=CONFIGS)
def whole(request, tmp_path_factory):
    """A recipe and the folder of its run, never cut off."""
    chosen, folder = recipe(request.param), tmp_path_factory.mktemp("whole")
    run(folder, chosen)
    return chosen, folder


WRITES = ("write_bytes", "write_text")


@pytest.mark.bulk
@pytest.mark.parametrize("cut_at", range(12))
def test_a_run_cut_off_in_the_middle_of_any_write_resumes_to_the_same_bytes(
    whole, tmp_path, monkeypatch, cut_at
):
    """At most eleven writes: the metrics once, a checkpoint at steps 2, 3, 4 and 6, a config and a
    model at 2, and again at 3 and 6 where the bound is the best so far. The one numbered `cut_at`
    writes half of the file and then fails; number 11 never comes."""
    chosen, folder = whole
    originals = {name: getattr(Path, name) for name in WRITES}
    count = 0

    def cutting(name):
        def write(path, data, **options):
            nonlocal count
            count += 1
            if count == cut_at + 1:
                originals[name](path, data[: len(data) // 2], **options)
                raise OSError(28, "No space left on device", str(path))
            return originals[name](path, data, **options)

        return write

    for name in WRITES:
        monkeypatch.setattr(Path, name, cutting(name))
    try:
        run(tmp_path, chosen)
        assert 9 <= count <= cut_at
    except OSError:
        assert count == cut_at + 1 < 12
    monkeypatch.undo()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]
    run(tmp_path, chosen, Checkpoint.read(tmp_path))
    assert contents(tmp_path) == contents(folder)


def test_a_disk_that_fails_to_flush_keeps_the_previous_checkpoint(whole, tmp_path, monkeypatch):
    chosen, folder = whole
    old = (folder / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(old)
    checkpoint = Checkpoint.read(tmp_path)
    assert checkpoint is not None

    def failing(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    newer = Checkpoint(checkpoint.step + 1, chosen.to_dict(), checkpoint.tensors)
    with pytest.raises(OSError, match="Input/output"):
        newer.write(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_what_a_killed_run_left_half_written_is_replaced_by_the_next(whole, tmp_path):
    chosen, folder = whole
    (tmp_path / f".{FILE_NAME}.partial").write_bytes(b"half a checkpoint")
    (tmp_path / METRICS).write_text('{"step": 1, "sample": "cut in a }')
    assert Checkpoint.read(tmp_path) is None
    run(tmp_path, chosen)
    assert contents(tmp_path) == contents(folder)
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)


def test_a_checkpoint_reads_back_what_was_written_bit_for_bit(whole, tmp_path):
    chosen, folder = whole
    checkpoint = Checkpoint.read(folder)
    assert checkpoint is not None
    assert (checkpoint.step, Recipe.from_dict(checkpoint.description)) == (6, chosen)
    checkpoint.write(tmp_path)
    assert load_file(tmp_path / FILE_NAME).keys() == checkpoint.tensors.keys()
    for name, tensor in load_file(tmp_path / FILE_NAME).items():
        assert torch.equal(tensor, checkpoint.tensors[name])


def test_a_checkpoint_holds_weights_averages_and_both_moments_of_every_parameter(whole):
    chosen, folder = whole
    names = set(load_file(folder / FILE_NAME))
    model = LocalizationModel(chosen.model)
    expected = {f"{part}.{name}" for part in ("model", "average") for name in model.state_dict()}
    for name, _ in model.named_parameters():
        expected |= {f"optimizer.{name}.{part}" for part in ("step", "exp_avg", "exp_avg_sq")}
    assert names == expected


def test_the_model_to_use_is_the_average_not_the_weights(tmp_path):
    run(tmp_path, recipe(num_steps=3))
    checkpoint, model = load_file(tmp_path / FILE_NAME), load_file(tmp_path / "model.safetensors")
    for name, tensor in model.items():
        assert torch.equal(tensor, checkpoint[f"average.{name}"]), name
    assert not torch.equal(model["head"], checkpoint["model.head"])


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"\xff" * 200),
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: save_file(load_file(path), path),
    lambda path: save_file(load_file(path), path, metadata={"step": "2"}),
    lambda path: save_file(load_file(path), path, metadata={"step": "2", "recipe": "{"}),
    lambda path: save_file(load_file(path), path, metadata={"step": "2", "recipe": "[]"}),
    lambda path: save_file(load_file(path), path, metadata={"step": "2", "recipe": "{}"}),
], ids=["empty", "noise", "one byte short", "no header", "no recipe", "cut recipe", "a list",
        "an empty recipe"])  # fmt: skip
def test_a_damaged_checkpoint_is_one_sentence(whole, tmp_path, damage):
    path = tmp_path / FILE_NAME
    path.write_bytes((whole[1] / FILE_NAME).read_bytes())
    damage(path)
    with pytest.raises(ValueError, match=r".{20,}"):
        Checkpoint.read(tmp_path)


@pytest.mark.parametrize("change", [
    lambda tensors: tensors.pop("model.beta"),
    lambda tensors: tensors.pop("average.head"),
    lambda tensors: tensors.pop("optimizer.head.exp_avg_sq"),
    lambda tensors: tensors.update({"model.extra": torch.zeros(1)}),
    lambda tensors: tensors.update({"optimizer.extra.exp_avg": torch.zeros(1)}),
    lambda tensors: tensors.update({"nonsense": torch.zeros(1)}),
    lambda tensors: tensors.update({"model.head": torch.zeros(2, 2)}),
    lambda tensors: tensors.update({"optimizer.head.exp_avg": torch.zeros(2)}),
])  # fmt: skip
def test_a_checkpoint_with_a_tensor_too_many_too_few_or_misshaped_is_refused(
    whole, tmp_path, change
):
    chosen, folder = whole
    checkpoint = Checkpoint.read(folder)
    assert checkpoint is not None
    change(checkpoint.tensors)
    with pytest.raises(ValueError, match="another model or version"):
        run(tmp_path, chosen, checkpoint)
    assert not (tmp_path / FILE_NAME).exists()


def test_metrics_hold_every_step_once_and_each_held_out_bound(whole):
    _, folder = whole
    _, lines = contents(folder)
    assert [line["step"] for line in lines if "loss_bits" in line] == [1, 2, 3, 4, 5, 6]
    bounds = [line for line in lines if "valid_bits_per_token" in line]
    assert [line["step"] for line in bounds] == [3, 6]
    assert all(line["stderr"] > 0 and line["path"] == "masked" for line in bounds)
    assert [line["tokens"] for line in lines if "tokens" in line] == [24 * n for n in range(1, 7)]


def test_the_models_description_can_be_read_by_people_too(whole):
    chosen, folder = whole
    lines = (folder / "config.json").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("{", "}")
    assert [line.rstrip(",") for line in lines[1:-1]] == [
        f'  "{name}": {json.dumps(value)}' for name, value in asdict(chosen.model).items()
    ]


def test_the_first_loss_is_that_of_independent_tokens(whole):
    """Untrained, the model says the unigram law (or, without it, the uniform one): no surprises."""
    _, lines = contents(whole[1])
    assert 0 < lines[0]["loss_bits"] < math.log2(3) + 0.3


def test_the_same_seed_writes_the_same_bytes_and_another_others(whole, tmp_path):
    chosen, folder = whole
    run(tmp_path / "same", chosen)
    run(tmp_path / "other", chosen.with_changes(seed=1))
    assert contents(tmp_path / "same") == contents(folder)
    assert contents(tmp_path / "other")[1] != contents(folder)[1]


def test_how_often_a_run_is_evaluated_and_saved_does_not_change_what_it_learns(whole, tmp_path):
    chosen, folder = whole
    run(tmp_path, chosen.with_changes(eval_every=1, checkpoint_every=1, log_every=2))
    one, other = load_file(tmp_path / FILE_NAME), load_file(folder / FILE_NAME)
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("what", [math.nan, math.inf])
def test_a_nan_loss_ends_the_run_and_keeps_the_batch_and_the_checkpoint(
    tmp_path, monkeypatch, what
):
    losses, batches = [], []

    def exploding(model, tokens, *rest):
        losses.append(cross_entropy(model, tokens, *rest))
        batches.append(tokens)
        return losses[-1] * what if len(losses) == 4 else losses[-1]

    monkeypatch.setattr("stochloc.training.trainer.cross_entropy", exploding)
    with pytest.raises(ValueError, match=f"became {what} in update 4: lower the learning rate"):
        run(tmp_path, recipe())
    with safe_open(tmp_path / FILE_NAME, framework="pt") as file:
        assert file.metadata()["step"] == "3"
    kept = load_file(tmp_path / FAILURE)
    assert torch.equal(kept["tokens"], batches[-1])
    model = LocalizationModel(recipe().model)
    model.load_state_dict({n[6:]: t for n, t in kept.items() if n.startswith("model.")})
    with safe_open(tmp_path / FAILURE, framework="pt") as file:
        note = json.loads(file.metadata()["failure"])
    assert note["step"] == 3
    assert Recipe.from_dict(note["recipe"]) == recipe()


def test_a_nan_gradient_ends_the_run_before_the_weights_change(tmp_path, monkeypatch):
    before = {}

    def exploding(model, tokens, *rest):
        loss = cross_entropy(model, tokens, *rest)
        if not before:  # the loss stays what it is, its gradient becomes infinite
            before.update({name: p.detach().clone() for name, p in model.named_parameters()})
            loss.register_hook(lambda gradient: gradient * math.inf)
        return loss

    monkeypatch.setattr("stochloc.training.trainer.cross_entropy", exploding)
    with pytest.raises(ValueError, match=r"The gradient became .* in update 1: lower"):
        run(tmp_path, recipe())
    kept = load_file(tmp_path / FAILURE)
    for name, value in before.items():
        assert torch.equal(kept[f"model.{name.removeprefix('_forward_module.')}"], value)


def test_the_held_out_bound_in_the_metrics_is_that_of_the_model_that_was_saved(tmp_path):
    chosen, folder = recipe(eval_sequences=9), tmp_path
    run(folder, chosen)
    model, config = LocalizationModel.from_pretrained(folder), chosen.training
    windows = held_out_windows(texts().valid, config.length, config.eval_sequences)
    names = ((0, 0, 2, row) for row in range(len(windows)))
    assert len(windows) > config.batch_size
    streams = seeded_streams(torch.device("cpu"), config.seed, names)
    estimate = line_integral(model, windows, Masked(), 8, streams)
    lines = [line for line in contents(folder)[1] if "valid_bits_per_token" in line]
    told = min(lines, key=lambda line: line["valid_bits_per_token"])
    per_token = 1 / (config.length * math.log(2))
    assert told["valid_bits_per_token"] == pytest.approx(estimate.mean * per_token, rel=1e-5)
    assert told["stderr"] == pytest.approx(estimate.stderr * per_token, rel=1e-4)


def test_a_validation_text_shorter_than_a_window_is_refused_before_training(tmp_path):
    short = Texts(np.zeros(50, dtype=int), np.zeros(5, dtype=int), lambda model: "")
    with pytest.raises(ValueError, match="window"):
        Trainer(Fabric(accelerator="cpu", devices=1), recipe(), short, tmp_path)
    assert not list(tmp_path.iterdir())
