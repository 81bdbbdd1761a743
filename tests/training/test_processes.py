"""Two processes train the same model as one process, and notice when one of them is gone."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file

from stochloc.data import draw_windows
from stochloc.nn import LocalizationModel
from stochloc.tasks.runs import open_run, read_description
from stochloc.training.exclusive import LOCK
from stochloc.training.objective import cross_entropy
from stochloc.training.optimizers import make_optimizer
from stochloc.training.schedule import learning_rate
from stochloc.training.seeds import seeded_generator

pytestmark = pytest.mark.bulk

TEXT = "the quick brown fox jumps over the lazy dog and runs away. " * 40
# Different ones, since equal sequences are all in one part.
LINES = "\n".join(f"{a} {b}" for a, b in product(sorted(set(TEXT.split())), repeat=2))
SETTINGS = (
    "--length", "16", "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "4",
    "--eval-every", "2", "--checkpoint-every", "2",
)  # fmt: skip
TWO = ("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


def stochloc(place, *arguments):
    environment = {**os.environ, "STOCHLOC_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-m", "stochloc", *map(str, arguments)],
        env=environment, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    return process.returncode, process.stdout.decode(), process.stderr.decode()


@pytest.fixture(scope="module", params=[
    "32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow),
])  # fmt: skip
def first_update(request, tmp_path_factory):
    """A folder with a run of one update in two processes, and what they said."""
    place = tmp_path_factory.mktemp("first")
    (place / "text.txt").write_text(TEXT, encoding="utf-8")
    settings = [*SETTINGS, *TWO, "--steps", 1, "--precision", request.param]
    code, _, errors = stochloc(
        place, "train", "--data", place / "text.txt", "--out", place / "run", *settings
    )
    assert code == 0, errors
    return place, request.param, errors


def test_the_first_update_of_two_processes_is_that_of_one_written_out_by_hand(
    first_update, monkeypatch
):
    place, precision, _ = first_update
    run, is_half = place / "run", precision == "bf16-mixed"
    monkeypatch.setenv("STOCHLOC_CACHE", str(place / "cache"))
    recipe, tokenizer, choice = read_description(run)
    config, text = recipe.training, choice.load_text(tokenizer).train
    torch.manual_seed(config.seed)
    model = LocalizationModel(recipe.model)
    model.set_unigram(torch.from_numpy(np.bincount(text, minlength=tokenizer.vocabulary_size)))
    choose, noise = (seeded_generator(torch.device("cpu"), 0, 0, 0, k) for k in (0, 1))
    windows = draw_windows(text, 4, 16, choose)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        loss = cross_entropy(model, windows, config.law, noise)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    # Steps of Adam hide the size of a gradient; rounding to bfloat16 moves it by a part in 1,000.
    moment = load_file(run / "checkpoint.safetensors")["optimizer.head.exp_avg"]
    assert model.head.grad is not None
    own = 0.1 * model.head.grad
    bound = 5e-3 if is_half else 1e-5  # parts of a batch are rounded to bfloat16 by themselves
    assert float((moment - own).norm()) < bound * float(own.norm())
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss_bits"] * math.log(2) == pytest.approx(loss.item(), rel=1e-6)
    if is_half:
        return
    optimizer = make_optimizer(model, config)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, 0)
    optimizer.step()
    saved = load_file(run / "checkpoint.safetensors")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(saved[f"model.{name}"], value, atol=1e-6, rtol=1e-5, msg=name)
    assert len(open_run(run).tokenizer.decode([0])) == 1


SHARDS = ("--accelerator", "cpu", "--devices", "2", "--strategy", "fsdp")
# What two processes share in different ways: windows, mixtures, labels behind which windows stand,
# and whole sequences, of which a process may have fewer than the other.
KINDS = {
    "windows": ("--data", "text.txt"),
    "mixture": ("--data", "text.txt", "other.txt", "--weights", "1", "3"),
    "labels": ("--data", "one=text.txt,two=other.txt"),
    "sequences": ("--data", "lines.txt", "--sequences"),
}


@pytest.fixture
def kinds(place):
    (place / "other.txt").write_text(TEXT[::-1], encoding="utf-8")
    (place / "lines.txt").write_text(LINES, encoding="utf-8")

    def of(kind, out, *more):
        named = [
            word.replace("text.txt", str(place / "text.txt"))
            .replace("other.txt", str(place / "other.txt"))
            .replace("lines.txt", str(place / "lines.txt"))
            for word in KINDS[kind]
        ]
        arguments = ("train", *named, "--out", place / out, *SETTINGS, *more)
        code, _, errors = stochloc(place, *arguments)
        assert code == 0, errors
        return load_file(place / out / "checkpoint.safetensors")

    return of


def assert_close(one, other, bound):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=bound, rtol=bound, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_shards_in_two_processes_end_at_the_weights_of_one_process(place, kinds, kind):
    one = kinds(kind, "one", "--accelerator", "cpu", "--steps", 4)
    assert_close(one, kinds(kind, "copies", *TWO, "--steps", 4), 2e-5)
    assert_close(one, kinds(kind, "shards", *SHARDS, "--steps", 4), 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["windows", "sequences"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "16-mixed"])
def test_a_run_from_a_trained_one_in_two_processes_begins_with_its_weights_and_goes_on(
    place, kinds, kind, precision
):
    """Its weights are there after an update that moves nothing, and a finished run goes on."""
    kinds(kind, "parent", "--accelerator", "cpu", "--steps", 2)
    own = ("--from", place / "parent", *TWO, "--precision", precision)
    recipe = ("--batch-size", "4", "--eval-every", "2", "--checkpoint-every", "2")
    data = [str(place / word) if word.endswith(".txt") else word for word in KINDS[kind]]
    arguments = ("train", *data, *own, *recipe, "--out")
    code, _, errors = stochloc(place, *arguments, place / "tiny", "--steps", 1,
                               "--learning-rate", "1e-12")  # fmt: skip
    assert code == 0, errors
    given = load_file(place / "parent" / "model.safetensors")
    moved = load_file(place / "tiny" / "model.safetensors")
    half = 1e-2 if precision == "bf16-true" else 1e-6
    for name, value in given.items():
        torch.testing.assert_close(moved[name], value, atol=half, rtol=half, msg=name)
    code, _, errors = stochloc(place, *arguments, place / "longer", "--steps", 2,
                               "--warmup-steps", 1)  # fmt: skip
    assert code == 0, errors
    code, _, errors = stochloc(place, "train", "--out", place / "longer", "--resume", *TWO,
                               "--steps", 4)  # fmt: skip
    assert code == 0, errors
    with safe_open(place / "longer" / "checkpoint.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "4"
    assert errors.count("The model is in") == 1


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_other_with_one_sentence_and_its_run_stays(place):
    environment = {**os.environ, "STOCHLOC_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    arguments = ["train", "--data", place / "text.txt", "--out", place / "run", *SETTINGS, *TWO,
                 "--steps", 100_000, "--eval-every", 100_000]  # fmt: skip
    first = subprocess.Popen(
        [sys.executable, "-m", "stochloc", *map(str, arguments)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 200
    while not (place / "run" / "checkpoint.safetensors").exists():
        assert first.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, told = first.communicate(timeout=60)
    errors = told.decode()
    assert first.returncode == 2, errors
    said = [line for line in errors.splitlines() if line.startswith("stochloc: ")]
    assert len(said) == 1, errors
    assert "Process 2 of 2" in said[0]
    assert said[0].endswith(f"stochloc train --out {place / 'run'} --resume")
    assert "Traceback" not in errors
    assert (place / "run" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_two_processes_that_resume_continue_as_if_never_cut(place):
    data = ("--data", place / "text.txt")
    whole, cut = place / "whole", place / "cut"
    code, _, errors = stochloc(place, "train", *data, "--out", whole, *SETTINGS, *TWO, "--steps", 4)
    assert code == 0, errors
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "valid_bits_per_token" in line] == [2, 4]
    # The checkpoint of step 2 is that of a run of 4 steps that was cut off there.
    script = (
        "import sys, stochloc.training.trainer as trainer\n"
        "update = trainer.Trainer.update\n"
        "def cut(run):\n"
        "    if run.step == 3: sys.exit(7)\n"
        "    return update(run)\n"
        "trainer.Trainer.update = cut\n"
        "from stochloc.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    (place / "cut.py").write_text(script)
    environment = {**os.environ, "STOCHLOC_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    arguments = ["train", *data, "--out", cut, *SETTINGS, *TWO, "--steps", 4]
    stopped = subprocess.run(
        [sys.executable, str(place / "cut.py"), *map(str, arguments)],
        env=environment, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert stopped.returncode != 0
    with safe_open(cut / "checkpoint.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "2"
    code, _, errors = stochloc(place, "train", "--out", cut, "--resume", *TWO)
    assert code == 0, errors
    a, b = (load_file(folder / "checkpoint.safetensors") for folder in (whole, cut))
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()


PARTS = ("--accumulate", "2")


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--sequences",), ("--precision", "16-mixed")], ids=str)
def test_two_processes_that_add_up_parts_train_the_model_of_whole_batches(place, more):
    """Gradients are shared once an update, and float16 products round parts and batches alike."""
    (place / "text.txt").write_text(LINES, encoding="utf-8")
    weights, arguments = [], ("train", "--data", place / "text.txt", *SETTINGS, *TWO, "--steps", 4)
    for name, parts in (("whole", ()), ("parts", PARTS)):
        code, _, errors = stochloc(place, *arguments, *more, *parts, "--out", place / name)
        assert code == 0, errors
        weights.append(load_file(place / name / "checkpoint.safetensors"))
    bound = 2e-3 if "16-mixed" in more else 2e-5
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=bound, rtol=bound, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_a_loss_that_is_not_finite_in_the_second_process_ends_both_with_one_sentence(
    place, precision
):
    script = (
        "import sys, torch, stochloc.training.trainer as trainer\n"
        "whole, calls = trainer.cross_entropy_in_parts, []\n"
        "def exploding(*arguments):\n"
        "    calls.append(1)\n"
        "    bad = len(calls) == 3 and torch.distributed.get_rank() == 1\n"
        "    factor = float('nan') if bad else 1.0\n"
        "    return [lambda own=own: own() * factor for own in whole(*arguments)]\n"
        "trainer.cross_entropy_in_parts = exploding\n"
        "from stochloc.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    (place / "explode.py").write_text(script)
    environment = {**os.environ, "STOCHLOC_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    arguments = ["train", "--data", place / "text.txt", "--out", place / "run", *SETTINGS, *TWO,
                 "--steps", 9, "--eval-every", 9, "--checkpoint-every", 9,
                 "--precision", precision]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, str(place / "explode.py"), *map(str, arguments)],
        env=environment, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    errors = ended.stderr.decode()
    assert ended.returncode == 2, errors
    assert errors.count("The loss became nan in update 3") == 1, errors
    assert "Traceback" not in errors
    kept = load_file(place / "run" / "failure.safetensors")
    assert all(tensor.isfinite().all() for tensor in kept.values())


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_refused_and_nothing_is_written(place):
    code, output, errors = stochloc(place, "train", "--data", place / "text.txt", "--out",
                                    place / "run", *SETTINGS, *TWO, "--batch-size", 3)  # fmt: skip
    assert code == 2
    assert output == ""
    assert errors.count("shared equally by 2 processes") == 1
    assert "Traceback" not in errors
    assert not (place / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("first_update", ["32-true"], indirect=True)
def test_two_processes_tell_once_what_ends_them(first_update):
    place, _, errors = first_update
    assert errors.count("The model is in") == 1
    with FileLock(place / "run" / LOCK):  # met by the first process alone; the other one misses it
        code, _, errors = stochloc(place, "train", "--out", place / "run", "--resume", *TWO)
    assert code == 2
    assert errors.count("stochloc: ") == 1, errors
    assert "Another process is using" in errors
    assert "Traceback" not in errors
