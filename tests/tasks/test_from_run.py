"""Runs that begin with a trained model, parts of them frozen, and training that ends early."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file
from tasks.conftest import TRAIN

from stochloc.tasks.runs import open_run
from stochloc.training.checkpoint import FILE_NAME, Checkpoint
from stochloc.training.metrics import METRICS
from stochloc.training.snr import Masks
from stochloc.training.trainer import Trainer

pytestmark = pytest.mark.bulk

OTHER = "a lazy fox runs over the brown dog and jumps away. " * 40
SHORT = ("--steps", 3, "--eval-every", 1, "--batch-size", 4, "--accelerator", "cpu")


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other.txt"
    path.write_text(OTHER)
    return path


def parts(folder, name):
    checkpoint = Checkpoint.read(folder)
    assert checkpoint is not None
    return checkpoint.part(name)


def test_a_run_begins_with_the_best_weights_of_another_and_says_which(
    trained, other, tmp_path, call, monkeypatch
):
    parent, out, seen = trained / "run", tmp_path / "out", []
    update = Trainer.update

    def noting(trainer):
        seen.append({name: own.clone() for name, own in trainer.model.state_dict().items()})
        return update(trainer)

    monkeypatch.setattr(Trainer, "update", noting)
    call("train", "--from", parent, "--data", other, "--out", out, *SHORT)
    given = load_file(parent / "model.safetensors")
    assert seen[0].keys() == given.keys()
    assert all(torch.equal(seen[0][name], given[name]) for name in given)
    assert not torch.equal(seen[1]["head"], given["head"])
    told = json.loads((out / "recipe.json").read_text())
    digest = hashlib.sha256((parent / "model.safetensors").read_bytes()).hexdigest()
    assert told["from"] == {"run": str(parent), "weights_sha256": digest}
    own, before = open_run(out), open_run(parent)
    assert own.tokenizer == before.tokenizer
    assert own.recipe.model == before.recipe.model
    assert own.recipe.training.num_steps == 3
    assert own.recipe.training.length == before.recipe.training.length


def test_a_run_that_begins_with_a_model_resumes_to_the_same_bytes_from_any_update(
    trained, other, tmp_path, call, monkeypatch
):
    update = Trainer.update

    def run(folder, cut_at):
        def cut(trainer):
            if trainer.step == cut_at:
                raise KeyboardInterrupt
            return update(trainer)

        monkeypatch.setattr(Trainer, "update", cut)
        begin = ("train", "--from", trained / "run", "--data", other, "--out", folder)
        if cut_at is None:
            call(*begin, *SHORT)
        else:
            with pytest.raises(SystemExit):
                call(*begin, *SHORT)
            monkeypatch.undo()
            call("train", "--resume", "--out", folder)
        return load_file(folder / FILE_NAME)

    whole = run(tmp_path / "whole", None)
    for cut_at in (0, 2):
        cut = run(tmp_path / f"cut{cut_at}", cut_at)
        assert cut.keys() == whole.keys()
        assert all(torch.equal(cut[name], whole[name]) for name in whole)


def test_frozen_parts_stay_to_the_bit_and_all_others_move(trained, other, tmp_path, call):
    out = tmp_path / "out"
    frozen = ("embeddings", "transformer")
    call("train", "--from", trained / "run", "--data", other, "--out", out, *SHORT,
         "--freeze", ",".join(frozen), "--weight-decay", 1)  # fmt: skip
    given = load_file(trained / "run" / "model.safetensors")
    for part in ("model", "average"):
        after = parts(out, part)
        for name, tensor in given.items():
            is_frozen = name.startswith(frozen) or name == "log_unigram"
            assert torch.equal(after[name], tensor) == is_frozen, name
    moments = parts(out, "optimizer")
    assert moments
    assert not any(name.startswith(frozen) for name in moments)
    call("train", "--resume", "--out", out, "--steps", 4)
    assert open_run(out).recipe.freeze == frozen
    assert torch.equal(parts(out, "model")["embeddings"], given["embeddings"])


@pytest.mark.parametrize(("flags", "words"), [
    (("--freeze", "tail"), "no part 'tail'"), (("--freeze", "hea"), "no part 'hea'"),
    (("--freeze", "beta,embeddings,head,transformer"), "Every part"),
    (("--freeze", "embeddings,head,transformer"), "more than one number"),
    (("--tokenizer", "bytes"), "no effect with --from"), (("--width", 32), "no effect with --from"),
    (("--sequences",), "no boundary token"), (("--patience", -1), "patience"),
    (("--resume",), "no effect with --resume"),
])  # fmt: skip
def test_what_cannot_be_asked_of_a_trained_model_is_refused_in_a_sentence(
    trained, other, tmp_path, refuse, flags, words
):
    out = tmp_path / "out"
    sentence = refuse("train", "--from", trained / "run", "--data", other, "--out", out, *flags)
    assert words in sentence
    assert not out.exists()


def test_data_of_other_characters_or_classes_is_refused_before_there_is_a_run(
    trained, other, tmp_path, refuse
):
    strange, out = tmp_path / "strange.txt", tmp_path / "out"
    strange.write_text("ÄÖÜ" * 300)
    for data in (strange, f"a={other},b={other}"):
        refuse("train", "--from", trained / "run", "--data", data, "--out", out)
        assert not out.exists()


def test_a_law_is_chosen_by_name_and_kept_when_the_run_is_resumed(
    trained, other, tmp_path, call, refuse
):
    out = tmp_path / "out"
    call("train", "--from", trained / "run", "--data", other, "--out", out, *SHORT,
         "--law", "masks")  # fmt: skip
    assert open_run(out).recipe.training.law == Masks()
    again = ("train", "--resume", "--out", out, "--steps", 4, "--law")
    assert "law would differ" in refuse(*again, "sentence")
    call(*again, "masks")
    assert open_run(out).recipe.training.law == Masks()


@pytest.fixture
def best_at_two(monkeypatch):
    evaluate = Trainer.evaluate

    def measured(trainer):
        bits = 1.0 if trainer.step == 2 else 2.0 + trainer.step
        return {**evaluate(trainer), "valid_bits_per_token": bits}

    monkeypatch.setattr(Trainer, "evaluate", measured)


def test_training_ends_when_as_many_bounds_in_turn_as_asked_for_were_no_better(
    trained, tmp_path, call, best_at_two
):
    """Bounds after each of 9 updates, the best after the second: patience 3 ends after the fifth,
    wherever the run was stopped in between, and more patience continues to the end."""
    text, out = trained / "text.txt", tmp_path / "out"
    changes = [*TRAIN, "--steps", "9", "--eval-every", "1", "--patience", "3"]
    stop = iter([0, 0, 0, 15])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stochloc.training.loop._signal_to_any", lambda *a: next(stop))
        with pytest.raises(SystemExit) as stopped:
            call("train", "--data", text, "--out", out, *changes)
    assert stopped.value.code == 143
    steps = lambda: [  # noqa: E731
        line["step"]
        for line in map(json.loads, (out / METRICS).read_text().splitlines())
        if "valid_bits_per_token" in line
    ]
    assert steps() == [1, 2, 3, 4]
    call("train", "--resume", "--out", out)
    assert steps() == [1, 2, 3, 4, 5]
    call("train", "--resume", "--out", out)
    assert steps() == [1, 2, 3, 4, 5]
    checkpoint = Checkpoint.read(out)
    assert checkpoint is not None
    assert checkpoint.step == 5
    assert checkpoint.best is not None
    assert checkpoint.best.step == 2
    call("train", "--resume", "--out", out, "--patience", 0)
    assert steps() == list(range(1, 10))
