"""Continued runs: longer than planned, on other hardware, with the best model so far."""

import fcntl
import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file
from tasks.conftest import TRAIN

from stochloc.cli import main
from stochloc.tasks.correct.calibration import FILE, correction_defaults
from stochloc.tasks.hardware import Hardware, resumed_hardware
from stochloc.tasks.runs import open_run, read_hardware
from stochloc.training.checkpoint import FILE_NAME, Best, Checkpoint
from stochloc.training.exclusive import LOCK
from stochloc.training.metrics import METRICS
from stochloc.training.schedule import learning_rate
from stochloc.training.trainer import Trainer

pytestmark = pytest.mark.bulk

RESUME = ("train", "--resume", "--out")


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a finished run of 4 updates."""
    return shutil.copytree(trained / "run", tmp_path / "run")


def train(trained, folder, *changes):
    main(["train", "--data", str(trained / "text.txt"), "--out", str(folder), *TRAIN, *changes])


def metrics(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def bounds(folder):
    found = [line for line in metrics(folder) if "valid_bits_per_token" in line]
    return {line["step"]: line["valid_bits_per_token"] for line in found}


def tensors(folder):
    return load_file(folder / FILE_NAME)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def worse_and_worse(monkeypatch):
    """Every held-out bound is one bit above that before it, but for the second, the best."""
    evaluate = Trainer.evaluate

    def measured(trainer):
        bits = 1.0 if trainer.step == 4 else 2.0 + trainer.step
        return {**evaluate(trainer), "valid_bits_per_token": bits}

    monkeypatch.setattr(Trainer, "evaluate", measured)


def test_a_finished_run_continues_by_the_schedule_of_its_new_length(run, call):
    before = metrics(run)
    call(*RESUME, run, "--steps", 7)
    recipe = open_run(run).recipe
    assert recipe.training.num_steps == 7
    assert metrics(run)[: len(before)] == before
    checkpoint = Checkpoint.read(run)
    assert checkpoint is not None
    assert checkpoint.step == 7
    assert set(bounds(run)) == {2, 4, 6, 7}
    last = metrics(run)[-2]
    assert last["learning_rate"] == pytest.approx(learning_rate(recipe.training, 6), rel=1e-12)
    assert last["learning_rate"] > 0


def test_an_unfinished_run_made_longer_is_bit_by_bit_one_that_was_longer_from_there_on(
    trained, tmp_path, call, monkeypatch
):
    """Cut off after its checkpoint of step 2: extended at once, or after another resumed update."""
    update, folders = Trainer.update, [tmp_path / name for name in ("one", "other")]

    def cut_off_at(step):
        def cut(trainer):
            if trainer.step == step:
                raise KeyboardInterrupt
            return update(trainer)

        monkeypatch.setattr(Trainer, "update", cut)

    for folder in folders:
        cut_off_at(2)
        with pytest.raises(SystemExit):
            train(trained, folder)
        monkeypatch.undo()
    monkeypatch.setenv("STOCHLOC_CACHE", str(tmp_path))
    call(*RESUME, folders[0], "--steps", 8)
    cut_off_at(5)
    with pytest.raises(SystemExit):
        main([*RESUME, str(folders[1]), "--steps", "8"])
    monkeypatch.undo()
    monkeypatch.setenv("STOCHLOC_CACHE", str(tmp_path))
    call(*RESUME, folders[1])  # the run knows by itself that it is to have 8
    assert equal(*(tensors(folder) for folder in folders))
    assert bounds(folders[0]) == bounds(folders[1])


def test_a_run_killed_between_its_new_length_and_the_next_checkpoint_resumes(run, call):
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["training"]["num_steps"] = 6
    (run / "recipe.json").write_text(json.dumps(recipe))
    call(*RESUME, run)
    assert bounds(run).keys() == {2, 4, 6}


def test_a_run_is_not_made_shorter_and_another_recipe_is_refused_still(run, refuse):
    assert "more of them, not with 3" in refuse(*RESUME, run, "--steps", 3)
    for steps in (0, -1):
        assert f"--steps must be at least 1, not {steps}" in refuse(*RESUME, run, "--steps", steps)
    assert "seed would differ" in refuse(*RESUME, run, "--steps", 9, "--seed", 5)
    assert open_run(run).recipe.training.num_steps == 4


def test_a_dry_run_of_a_longer_run_prints_it_and_changes_nothing(run, call):
    before = (run / "recipe.json").read_bytes()
    printed = json.loads(call(*RESUME, run, "--steps", 9, "--dry-run").out)
    assert printed["training"]["num_steps"] == 9
    assert (run / "recipe.json").read_bytes() == before


def test_a_resumed_run_counts_elapsed_seconds_from_where_it_stopped(run, call):
    lines = (run / METRICS).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        if "elapsed_s" in record:
            record["elapsed_s"] = 5000.0
    (run / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))
    call(*RESUME, run, "--steps", 6)
    assert 5000 < metrics(run)[-2]["elapsed_s"] < 5100


@pytest.mark.usefixtures("worse_and_worse")
def test_the_best_model_is_used_with_a_note_and_the_last_is_available(run, call):
    best = load_file(run / "model.safetensors")
    told = call(*RESUME, run, "--steps", 7).err
    assert "best on validation text, of step 4" in told
    assert equal(load_file(run / "model.safetensors"), best)
    last = {
        name.removeprefix("average."): tensor
        for name, tensor in tensors(run).items()
        if name.startswith("average.")
    }
    assert not equal(last, best)
    for checkpoint, weights in (("best", best), ("last", last)):
        opened = open_run(run, checkpoint=checkpoint)
        assert equal(dict(opened.model.state_dict()), weights)
    assert open_run(run).progress is not None
    flags = ("--steps", 2, "--checkpoint", "last")
    for command in (("sample", run, "--n", 1), ("eval", run, "--split", "all", "--sequences", 1)):
        assert "step 4" in call(*command, "--steps", 2).err
        assert "the weights are the last, of step 7" in call(*command, *flags).err


@pytest.mark.usefixtures("worse_and_worse")
def test_the_last_weights_are_used_if_no_bound_was_measured_after_the_best(
    trained, tmp_path, call, monkeypatch, capsys
):
    """Stopped at step 5 after the best bound at 4; with a worse bound at 6 the best is used."""
    monkeypatch.setattr("stochloc.tasks.tune.KNOWN_SHARES", 2)
    monkeypatch.setattr("stochloc.tasks.tune.SNR_LEVELS", (0, 1, 4))
    folder, signals = tmp_path / "run", iter([0, 0, 0, 0, 2])
    with monkeypatch.context() as patch:
        patch.setattr("stochloc.training.loop._signal_to_any", lambda *a: next(signals))
        with pytest.raises(SystemExit) as stopped:
            train(trained, folder, "--steps", "8")
    assert stopped.value.code == 130
    told = capsys.readouterr().err
    note = "the weights are the last, of step 5; --checkpoint best takes the best on validation"
    assert note in told
    assert "what was done is saved. Continue it with" in told
    opened, best = open_run(folder), open_run(folder, checkpoint="best")
    assert (opened.checkpoint, best.checkpoint) == ("last", "best")
    average = Checkpoint.read(folder).part("average")
    assert equal(dict(opened.model.state_dict()), average)
    assert equal(dict(best.model.state_dict()), load_file(folder / "model.safetensors"))
    assert not equal(dict(opened.model.state_dict()), dict(best.model.state_dict()))
    for command in (
        ("sample", folder, "--n", 1, "--steps", 2), ("infill", folder, "the _uick"),
        ("eval", folder, "--sequences", 1), ("correct", folder, "the quikc", "--one-pass"),
        ("tune", folder, "--sequences", 1), ("export", folder, "--out", tmp_path / "plain"),
        ("train", "--from", folder, "--data", trained / "text.txt", "--out", tmp_path / "x",
         "--dry-run"),
    ):  # fmt: skip
        assert "the weights are the last, of step 5" in call(*command).err
    assert "step 4" in call("sample", folder, "--n", 1, "--checkpoint", "best").err
    assert "only these are uploaded" in call("push", folder, "a/b", "--dry-run").err
    call(*RESUME, folder, "--steps", 8)
    assert open_run(folder).checkpoint == "best"
    assert "best on validation text, of step 4" in call("sample", folder, "--n", 1).err


def test_a_run_whose_metrics_are_lost_uses_the_best_weights(run):
    (run / METRICS).unlink()
    checkpoint = Checkpoint.read(run)
    assert checkpoint is not None
    description = {**checkpoint.description, "best": {"step": 2, "valid_bits_per_token": 1.0}}
    Checkpoint(checkpoint.step, description, checkpoint.tensors).write(run)
    assert open_run(run).checkpoint == "best"
    (run / METRICS).write_text('{"step": 2, "valid_bits_per_token": 1.0}\n[1]\n{"step"')
    assert open_run(run).checkpoint == "last"


@pytest.mark.usefixtures("worse_and_worse")
def test_what_is_measured_of_the_last_model_is_not_taken_for_the_bests(run, call):
    call(*RESUME, run, "--steps", 7)
    best, last = open_run(run), open_run(run, checkpoint="last")
    for opened in (best, last):
        correction_defaults(opened)
    assert {best.beside(FILE).name, last.beside(FILE).name} == {FILE, "correction_last.json"}
    assert (run / "correction_last.json").is_file()
    assert (run / FILE).is_file()


@pytest.mark.usefixtures("worse_and_worse")
def test_where_the_last_is_the_best_nobody_is_told_and_both_names_mean_it(trained, call, tmp_path):
    train(trained, tmp_path / "run")
    progress = open_run(tmp_path / "run").progress
    assert progress is not None
    assert progress.best == Best(progress.step, 1.0)
    texts = []
    for checkpoint in ("best", "last"):
        flags = ("--n", 1, "--steps", 2, "--checkpoint", checkpoint)
        told = call("sample", tmp_path / "run", *flags)
        assert "weights" not in told.err
        texts.append(told.out)
    assert texts[0] == texts[1]


def test_the_best_is_the_lowest_bound_in_the_metrics_and_survives_every_resumption(run, call):
    for steps in range(5, 10):
        call(*RESUME, run, "--steps", steps)
        found, checkpoint = bounds(run), Checkpoint.read(run)
        assert checkpoint is not None
        step = min(found, key=lambda step: found[step])
        assert checkpoint.best == Best(step, found[step])


@pytest.mark.usefixtures("worse_and_worse")
def test_a_run_of_a_version_that_kept_only_the_last_model_goes_on_and_keeps_it_as_the_best(
    run, call
):
    checkpoint = Checkpoint.read(run)
    assert checkpoint is not None
    old = {name: value for name, value in checkpoint.description.items() if name != "best"}
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    for line in lines:
        if "valid_bits_per_token" in line:
            line["valid_bits_per_token"] = 1.0
    (run / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    Checkpoint(checkpoint.step, old, checkpoint.tensors).write(run)
    recipe = json.loads((run / "recipe.json").read_text())
    del recipe["hardware"]
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert open_run(run).note is None
    before = (run / "model.safetensors").read_bytes()
    call(*RESUME, run, "--steps", 6)
    assert (run / "model.safetensors").read_bytes() == before
    resumed = Checkpoint.read(run)
    assert resumed is not None
    assert resumed.best == Best(4, 1.0)
    assert read_hardware(run) == Hardware("cpu")


def test_the_last_weights_of_a_folder_without_a_checkpoint_are_refused_and_the_best_are_not(
    run, refuse, call
):
    (run / FILE_NAME).unlink()
    assert "no checkpoint.safetensors" in refuse("sample", run, "--checkpoint", "last")
    assert "weights" not in call("sample", run, "--n", 1, "--steps", 2).err


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
def test_a_damaged_checkpoint_leaves_the_best_model_usable(run, refuse, call, damage):
    (run / FILE_NAME).write_bytes(damage)
    call("sample", run, "--n", 1, "--steps", 2)
    assert "damaged" in refuse("sample", run, "--checkpoint", "last")


def test_a_resumed_run_keeps_its_precision_and_its_numbers(trained, tmp_path, call, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(trained, whole, "--precision", "bf16-mixed")
    update = Trainer.update

    def cut_off(trainer):
        if trainer.step == 3:
            raise KeyboardInterrupt
        return update(trainer)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Trainer, "update", cut_off)
        train(trained, cut, "--precision", "bf16-mixed")
    assert read_hardware(cut) == Hardware("cpu", precision="bf16-mixed")
    told = call(*RESUME, cut).err
    assert "numbers will differ" not in told
    assert equal(tensors(cut), tensors(whole))


def test_a_change_of_precision_is_made_and_stored_with_a_warning(run, call):
    told = call(*RESUME, run, "--steps", 6, "--precision", "bf16-true").err
    assert "trained on cpu, 32-true, and continues on cpu, bf16-true (as asked)" in told
    assert "numbers will differ" in told
    assert read_hardware(run) == Hardware("cpu", precision="bf16-true")
    assert tensors(run)["model.head"].dtype == torch.bfloat16
    assert "differ" not in call(*RESUME, run, "--steps", 7).err


def test_missing_hardware_is_replaced_with_a_warning_and_stays_in_the_run(run, call, refuse):
    if torch.cuda.is_available():
        pytest.skip("this machine has what is to be missing")
    recipe = json.loads((run / "recipe.json").read_text())
    kept = Hardware("cuda", 8, "ddp", "bf16-mixed", accumulate=2)
    recipe["hardware"] = asdict(kept)
    (run / "recipe.json").write_text(json.dumps(recipe))
    told = call(*RESUME, run, "--steps", 6).err
    assert "cuda x 8 (ddp), bf16-mixed, 2 parts an update" in told
    assert "continues on cpu, bf16-mixed, 2 parts an update (This machine has no cuda" in told
    assert read_hardware(run) == kept
    assert "no cuda" in refuse(*RESUME, run, "--accelerator", "cuda")


def test_a_machine_without_a_compiler_refuses_to_begin_and_resumes_without_compiling(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    kept = Hardware("cpu", 2, "ddp", accumulate=3, compile=True)
    with pytest.raises(ValueError, match=r"no C\+\+ compiler.*: install g\+\+"):
        kept.resolved()
    with pytest.raises(ValueError, match=r"no C\+\+ compiler"):
        resumed_hardware(kept, {"compile": True})
    continued = resumed_hardware(kept, {})
    assert (continued.here, continued.kept) == (replace(kept, compile=False), kept)
    assert continued.warning is not None
    assert "3 parts an update, compiled, and continues" in continued.warning
    assert "has no C++ compiler" in continued.warning


@pytest.mark.parametrize("hardware", [
    [], 3, {"devices": 0}, {"devices": "two"}, {"accelerator": "abacus"}, {"speed": 1},
    {"precision": "64-true"}, {"strategy": "chess"},
])  # fmt: skip
def test_absurd_hardware_in_a_runs_description_is_one_sentence(run, refuse, hardware):
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps({**recipe, "hardware": hardware}))
    assert refuse(*RESUME, run, "--steps", 6)


def test_one_device_has_no_strategy_and_several_have_ddp_so_that_equal_things_compare_equal():
    assert Hardware("cpu", 1, "ddp").resolved() == Hardware("cpu", 1, "auto")
    assert Hardware("cpu", 2, "auto").resolved() == Hardware("cpu", 2, "ddp")
    kept = Hardware("cpu", 2, "ddp")
    assert resumed_hardware(kept, {"strategy": "auto", "devices": 2}).warning is None
    fewer = resumed_hardware(kept, {"devices": 1})
    assert (fewer.here, fewer.kept) == (Hardware("cpu"), Hardware("cpu"))
    assert fewer.warning is not None


@pytest.mark.parametrize("error", [OSError(37, "No locks available"), OSError(95, "Not supported")])
def test_without_file_locks_a_warning_is_printed_and_the_work_continues(
    trained, tmp_path, monkeypatch, capsys, error
):
    def refused(*arguments):
        raise error

    monkeypatch.setattr(fcntl, "flock", refused)
    train(trained, tmp_path / "run")
    told = capsys.readouterr().err
    assert "has no locks" in told
    assert "no other process" in told
    main([*RESUME, str(tmp_path / "run"), "--steps", "6"])
    assert open_run(tmp_path / "run").recipe.training.num_steps == 6


@pytest.mark.parametrize("cut_at", range(3))
def test_a_start_that_fails_at_any_write_leaves_a_folder_to_start_in_or_a_run_to_resume(
    trained, tmp_path, monkeypatch, capsys, cut_at
):
    """The tokenizer, the description, the first metrics: whole or, here, half written."""
    folder, written = tmp_path / "run", type(tmp_path).write_text
    count = 0

    def cutting(path, data, **options):
        nonlocal count
        count += 1
        if count == cut_at + 1:
            written(path, data[: len(data) // 2], **options)
            raise OSError(28, "No space left on device", str(path))
        return written(path, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "write_text", cutting)
        with pytest.raises(SystemExit):
            train(trained, folder)
    assert folder.is_dir()
    if (folder / "recipe.json").exists():
        main([*RESUME, str(folder)])
    else:
        train(trained, folder)
    assert equal(tensors(folder), tensors(trained / "run"))


@pytest.mark.parametrize("names", [("tokenizer.json",), (LOCK, "letter.txt"), ("recipe.json",)])
def test_a_folder_with_anything_of_anybodys_is_not_written_to(trained, tmp_path, capsys, names):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("mine")
    with pytest.raises(SystemExit):
        train(trained, folder)
    assert "not empty" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        names, "mine"
    )
