"""Bad input, damaged files and full disks: code 2, one sentence, and nothing lost or created."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tasks.conftest import TEXT, TRAIN

from stochloc.cli import main
from stochloc.training.exclusive import LOCK
from stochloc.training.interruption import Stopped

pytestmark = pytest.mark.bulk


def snapshot(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the run, to be damaged."""
    return shutil.copytree(trained / "run", tmp_path / "run")


def rewrite_json(path, change):
    values = json.loads(path.read_text())
    path.write_text(json.dumps(change(values) or values))


def rewrite_weights(path, change):
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(("arguments", "reason"), [
    (("--seed", "-1"), "seed"), (("--seed", str(2**70)), "seed"),
    (("--steps", "0"), "--steps"), (("--length", "0"), "length"),
    (("--warmup-steps", "-1"), "--warmup-steps"), (("--weight-decay", "nan"), "--weight-decay"),
    (("--ema-decay", "1"), "--ema-decay"), (("--learning-rate", "inf"), "learning rate"),
    (("--checkpoint-every", "0"), "--checkpoint-every"), (("--eval-every", "-5"), "--eval-every"),
    (("--width", "0"), "width"), (("--width", "17"), "no multiple"), (("--depth", "0"), "depth"),
    (("--fractions", "1", "0", "0"), "validation text"),
    (("--fractions", "nan", "0", "0"), "shares"),
    (("--length", "5000"), "window"), (("--valid", "nowhere.txt"), "nowhere.txt"),
    (("--test", "nowhere.txt"), "nowhere.txt"), (("--accelerator", "cuda"), "cuda"),
    (("--strategy", "fsdp", "--precision", "16-mixed"), "no scaled gradients"),
    (("--num-nodes", "0"), "--num-nodes"), (("--num-nodes", "2"), "MASTER_ADDR"),
    (("--preset", ""), "preset"),
], ids=lambda value: "_".join(value) if isinstance(value, tuple) else "")  # fmt: skip
def test_a_run_that_cannot_be_is_refused_before_its_folder_is_made(
    trained, tmp_path, refuse, arguments, reason
):
    if arguments[-1] == "cuda" and shutil.which("nvidia-smi"):
        pytest.skip("there is a GPU")
    sentence = refuse("train", "--data", trained / "text.txt", "--out", tmp_path / "run", *TRAIN,
                      *arguments)  # fmt: skip
    assert reason.lower() in sentence.lower()
    assert not list(tmp_path.iterdir())


def test_an_out_that_is_a_file_or_below_one_is_refused_and_unchanged(trained, tmp_path, refuse):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        refuse("train", "--data", trained / "text.txt", "--out", out, *TRAIN)
    assert snapshot(tmp_path) == {Path("file"): b"mine"}


def test_an_empty_folder_may_become_a_run(trained, tmp_path, call):
    call("train", "--data", trained / "text.txt", "--out", tmp_path, *TRAIN, "--steps", "1")
    assert (tmp_path / "model.safetensors").is_file()


def test_quickstart_refuses_a_folder_that_holds_something_else(tmp_path, refuse):
    (tmp_path / "mine").write_text("mine")
    assert "not empty" in refuse("quickstart", "--out", tmp_path)
    assert snapshot(tmp_path) == {Path("mine"): b"mine"}


@pytest.mark.parametrize(("name", "arguments"), [
    ("seed", ("--seed", "1")), ("width", ("--width", "32")),
    ("data", ("--data", "builtin")), ("preset", ("--preset", "small")),
    ("tokenizer", ("--tokenizer", "bytes")), ("fractions", ("--fractions", "0.8", "0.1", "0.1")),
    ("valid", ("--valid", "text8")),
])  # fmt: skip
@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["", "dry"])
def test_a_resumed_run_names_the_option_that_contradicts_it(copy, refuse, name, arguments, dry):
    before = snapshot(copy)
    sentence = refuse("train", "--out", copy, "--resume", *arguments, *dry)
    assert f"but {name} would differ" in sentence
    assert snapshot(copy) == before


@pytest.mark.parametrize(("command", "arguments", "reason"), [
    ("eval", ("--sequences", "-1"), "sequences"), ("eval", ("--seed", "-1"), "seed"),
    ("eval", ("--continuous", "--steps", "0"), "step"),
    ("eval", ("--data", "nope.txt"), "nope.txt"),
    ("eval", ("--data", "."), "folder"), ("sample", ("--temperature", "-1"), "temperature"),
    ("sample", ("--temperature", "nan"), "temperature"), ("sample", ("--n", "-2"), "--n"),
    ("sample", ("--steps", "0"), "step"), ("sample", ("--length", "0"), "length"),
    ("sample", ("--n", str(2**31)), "ask for fewer"),
    ("sample", ("--seed", str(2**64)), "seed"), ("sample", ("--prompt", "\udcff"), "character"),
    ("eval", ("--accelerator", "mps"), "mps"),
])  # fmt: skip
@pytest.mark.parametrize("json_too", [(), ("--json",)], ids=["", "json"])
def test_an_invalid_question_is_refused(trained, refuse, command, arguments, reason, json_too):
    sentence = refuse(command, trained / "run", *arguments, *json_too)
    assert reason in sentence


@pytest.mark.parametrize(("command", "reason"), [
    (("score", "RUN", "nope.txt"), "no file nope.txt"),
    (("score", "RUN", "nope.txt", "--out", "x.jsonl"), "no file nope.txt"),
    (("score", "RUN", "EMPTY"), "is empty"), (("score", "RUN", "TEXT", "--label", "x"), "classes"),
    (("eval", "RUN", "--data", "nope.txt"), "no file nope.txt"),
    (("eval", "RUN", "--label", "x"), "classes"), (("eval", "RUN", "--policy", "x"), "no policy"),
    (("infill", "RUN", "no blank here"), "no blank"),
    (("infill", "RUN", "a{9-2}"), "not a blank"),
    (("infill", "RUN", "the _", "--constraint", "2:a"), "no blank 2"),
    (("infill", "RUN", "the _", "--constraint", "#"), "no token"),
    (("infill", "RUN", "the _", "--policy", "x"), "no policy"),
    (("infill", "RUN", "--file", "nope.txt", "--out", "x.jsonl"), "no file nope.txt"),
    (("correct", "RUN", ""), "no text"), (("correct", "RUN", "a", "--label", "x"), "classes"),
    (("correct", "RUN", "--file", "nope.txt"), "no file nope.txt"),
    (("correct", "RUN", "--file", "nope.txt", "--out", "x.jsonl"), "no file nope.txt"),
    (("correct", "RUN", "a", "--one-pass", "--data", "nope.txt"), "no file nope.txt"),
    (("sample", "RUN", "--prompt", "#"), "'#'"), (("sample", "RUN", "--label", "x"), "classes"),
    (("sample", "RUN", "--policy", "x"), "no policy"), (("sample", "RUN", "--length", "x"), "x"),
    (("tune", "RUN", "--data", "nope.txt"), "no file nope.txt"),
    (("plot", "steps", "RUN", "--data", "nope.txt", "--out", "PLOTS"), "no file nope.txt"),
])  # fmt: skip
def test_what_needs_no_model_is_refused_before_it_is_loaded(
    trained, tmp_path, refuse, monkeypatch, command, reason
):
    def load(*_, **__):
        pytest.fail("the model was loaded")

    monkeypatch.setattr("stochloc.tasks.runs.FoundRun.open", load)
    (tmp_path / "empty.txt").touch()
    places = {
        "RUN": trained / "run", "TEXT": trained / "text.txt", "EMPTY": tmp_path / "empty.txt",
        "PLOTS": tmp_path,
    }  # fmt: skip
    assert reason in refuse(*(places.get(word, word) for word in command))


def test_too_little_memory_is_reported_in_one_sentence(trained, refuse, monkeypatch):
    def fail(*_):
        torch.empty(10**15)

    monkeypatch.setattr("stochloc.tasks.generate.start", fail)
    assert "not enough memory" in refuse("sample", trained / "run")
    monkeypatch.setattr("stochloc.tasks.generate.start", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        main(["sample", str(trained / "run")])


@pytest.mark.parametrize(("arguments", "reason"), [
    (("--size", "1"), "--size must be at least 2"), (("--sequences", "1"), "--sequences"),
    (("--snr", "0"), "above 0"), (("--snr", "nan"), "above 0"), (("--seed", "-1"), "seed"),
])  # fmt: skip
def test_an_invalid_cyclic_experiment_is_refused(refuse, arguments, reason):
    assert reason in refuse("cyclic", *arguments)


@pytest.mark.parametrize("content", [b"", b"ab", "\ufeff".encode("utf-16"), b"abc\xff" * 50])
def test_a_text_that_cannot_be_evaluated_is_refused(trained, tmp_path, refuse, content):
    (tmp_path / "text.txt").write_bytes(content)
    assert "text" in refuse("eval", trained / "run", "--data", tmp_path / "text.txt")


@pytest.mark.parametrize("command", ["sample", "eval"])
@pytest.mark.parametrize(("name", "damage"), [
    ("recipe.json", lambda path: path.unlink()),
    ("recipe.json", lambda path: path.write_text("[]")),
    ("recipe.json", lambda path: path.write_bytes(b"\xff\xfe")),
    ("recipe.json", lambda path: rewrite_json(path, lambda v: v.__delitem__("data"))),
    ("recipe.json", lambda path: rewrite_json(path, lambda v: v.update(data="x"))),
    ("recipe.json", lambda path: rewrite_json(path, lambda v: v.__delitem__("training"))),
    ("recipe.json", lambda path: rewrite_json(path, lambda v: v["model"].update(width=-4))),
    ("recipe.json", lambda path: rewrite_json(path, lambda v: v["model"].update(colour=1))),
    ("tokenizer.json", lambda path: path.unlink()),
    ("tokenizer.json", lambda path: path.write_text('{"kind": "runes"}')),
    ("tokenizer.json", lambda path: path.write_text('{"kind": "characters", "alphabet": ""}')),
    ("tokenizer.json", lambda path: path.write_text('{"kind": "characters", "alphabet": "abc"}')),
    ("config.json", lambda path: path.unlink()),
    ("config.json", lambda path: path.write_text("[]")),
    ("config.json", lambda path: rewrite_json(path, lambda v: v.update(width=32))),
    ("config.json", lambda path: rewrite_json(path, lambda v: v.update(heads=0))),
    ("model.safetensors", lambda path: path.unlink()),
    ("model.safetensors", lambda path: path.write_bytes(b"")),
    ("model.safetensors", lambda path: path.write_bytes(b"\xff" * 500)),
    ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    ("model.safetensors", lambda path: rewrite_weights(path, lambda w: w.pop("head"))),
    ("model.safetensors", lambda path: rewrite_weights(path, lambda w: w.update(x=w["beta"] + 1))),
    ("model.safetensors", lambda path: rewrite_weights(path, lambda w: w["head"].resize_(2, 16))),
])  # fmt: skip
def test_a_damaged_run_is_refused_and_left_as_it_is(copy, refuse, command, name, damage):
    damage(copy / name)
    before = snapshot(copy)
    refuse(command, copy)
    assert snapshot(copy) == before


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:1000]),
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: path.write_bytes(b"\xff" * 500),
    lambda path: rewrite_weights(path, lambda w: w.pop("model.beta")),
], ids=["empty", "cut", "a byte short", "noise", "no header"])  # fmt: skip
def test_a_damaged_checkpoint_is_not_resumed_and_not_overwritten(copy, refuse, damage):
    damage(copy / "checkpoint.safetensors")
    before = snapshot(copy)
    assert "damaged" in refuse("train", "--out", copy, "--resume")
    assert snapshot(copy) == before


@pytest.mark.parametrize("change", [{"num_steps": 3}, {"num_steps": 8, "seed": 1}, {"length": 8}])
def test_a_checkpoint_of_another_recipe_is_not_resumed(copy, refuse, change):
    rewrite_json(copy / "recipe.json", lambda v: v["training"].update(change))
    before = snapshot(copy)
    assert "not of the recipe" in refuse("train", "--out", copy, "--resume")
    assert snapshot(copy) == before


def test_metrics_cut_off_in_the_middle_of_a_line_do_not_stop_a_resume(copy, call):
    whole = (copy / "metrics.jsonl").read_bytes()
    (copy / "metrics.jsonl").write_bytes(whole + b'{"step": 4, "sample": "a \xff }')
    call("train", "--out", copy, "--resume")
    assert (copy / "metrics.jsonl").read_bytes() == whole


@pytest.mark.parametrize("option", [
    ("--path", "zigzag"), ("--transition", "jump"), ("--steps", "many"), ("--split", "half"),
    ("--nonsense",),
])  # fmt: skip
def test_the_parser_refuses_what_is_not_an_option(trained, capsys, option):
    with pytest.raises(SystemExit) as stopped:
        main(["eval", str(trained / "run"), *option])
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert option[-1].lstrip("-") in captured.err


def test_an_interruption_is_one_line_and_code_130(trained, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("stochloc.tasks.runs.describe_run", interrupt)
    with pytest.raises(SystemExit) as stopped:
        main(["sample", str(trained / "run")])
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "stochloc: interrupted.\n"


@pytest.mark.parametrize(("command", "hint"), [
    ("train", "Continue it with: stochloc train --out 'a run' --resume"),
    ("quickstart", "The same command continues it."),
])  # fmt: skip
def test_a_stopped_run_says_how_it_is_continued(capsys, monkeypatch, command, hint):
    def stop(*arguments, **options):
        raise Stopped(signal.SIGTERM)

    # In this order: imported after the other is patched, quickstart would keep what it found.
    monkeypatch.setattr("stochloc.tasks.quickstart.start_run", stop)
    monkeypatch.setattr("stochloc.tasks.train.start_run", stop)
    with pytest.raises(SystemExit) as stopped:
        main([command, "--out", "a run", *(["--data", "builtin"] if command == "train" else [])])
    assert stopped.value.code == 143
    assert capsys.readouterr().err == f"stochloc: stopped; what was done is saved. {hint}\n"


def test_a_text_that_has_changed_since_the_run_began_is_refused_and_the_run_kept(
    trained, tmp_path, refuse
):
    text = tmp_path / "text.txt"
    text.write_text((trained / "text.txt").read_text())
    main(["train", "--data", str(text), "--out", str(tmp_path / "run"), *TRAIN])
    text.write_text(TEXT.replace("fox", "cat") * 40)
    before = snapshot(tmp_path / "run")
    sentence = refuse("train", "--out", tmp_path / "run", "--resume")
    assert "has changed" in sentence
    text.unlink()
    assert "text.txt" in refuse("train", "--out", tmp_path / "run", "--resume")
    assert snapshot(tmp_path / "run") == before


@pytest.fixture
def small_disk(tmp_path, trained):
    """A disk of its own, room for one checkpoint of `trained` and half of a second; only where the
    tests may mount one."""
    checkpoint, model = (
        (trained / "run" / f"{name}.safetensors").stat().st_size for name in ("checkpoint", "model")
    )
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        command = ["mount", *options, "-t", "tmpfs", "tmpfs", str(place)]
        return shutil.which("mount") and subprocess.run(command, capture_output=True, check=False)

    mounted = mount("-o", f"size={checkpoint * 3 // 2 + model}") if os.name == "posix" else None
    if not mounted or mounted.returncode:
        pytest.skip("the tests may not mount a disk here")
    yield place, lambda options: mount("-o", f"remount,{options}")
    # Lazily: weights just read may still be mapped until Python collects them.
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_really_full_disk_keeps_the_last_checkpoint_and_room_lets_the_run_go_on(
    trained, tmp_path, small_disk, refuse, call
):
    """The disk holds one checkpoint, not two, so the second cannot be written beside the first."""
    place, remount = small_disk
    sentence = refuse("train", "--data", trained / "text.txt", "--out", place / "run", *TRAIN)
    assert "No space left on device" in sentence
    run = place / "run"
    assert [path.name for path in run.glob(".*")] == [LOCK]
    kept = snapshot(run)
    assert {Path("checkpoint.safetensors"), Path("model.safetensors")} <= kept.keys()
    remount("size=8m")
    call("train", "--out", run, "--resume")
    for name in ("model.safetensors", "config.json"):
        assert (run / name).read_bytes() == (trained / "run" / name).read_bytes()


def test_a_run_in_a_folder_that_cannot_be_written_is_refused_but_can_be_used(
    trained, small_disk, refuse, call
):
    place, remount = small_disk
    remount("size=8m")
    shutil.copytree(trained / "run", place / "run")
    remount("ro")
    before = snapshot(place)
    fresh = ("--data", trained / "text.txt", *TRAIN)
    for name, *rest in (("run", "--resume"), ("new", *fresh)):
        assert "Read-only file system" in refuse("train", "--out", place / name, *rest)
    assert call("sample", place / "run", "--n", 1, "--steps", 2).out
    assert snapshot(place) == before


def test_a_model_too_large_for_the_memory_leaves_no_run(trained, tmp_path, refuse, monkeypatch):
    def no_room(*arguments):
        raise MemoryError

    monkeypatch.setattr("stochloc.training.trainer.LocalizationModel", no_room)
    wanted = ("--data", trained / "text.txt", "--out", tmp_path / "run", *TRAIN)
    assert "not enough memory" in refuse("train", *wanted)
    assert not (tmp_path / "run").exists()


def test_a_process_ends_with_code_2_and_no_traceback(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "stochloc", "sample", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr == (
        f"stochloc: {tmp_path} is not the folder of a run: recipe.json is missing.\n"
    )


def test_text_and_tokens_stay_as_they_were(trained):
    assert (trained / "text.txt").read_text() == TEXT * 40
