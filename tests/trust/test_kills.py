"""Killed at any moment, a process leaves complete files and a run that resumes to equal results.

In all 52 SIGKILLs: 30 in training that writes a checkpoint every second update, 10 while a corpus
is encoded, 12 in a comparison. What is written is read after every one of them.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from tasks.conftest import TEXT, figures
from trust.conftest import TINY

pytestmark = pytest.mark.slow

SMALL = (
    "--length", "8", "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "4",
    "--grid", "1e-3", "--windows", "6", "--samples", "2", "--texts", "3", "--steps", "2",
    "--accelerator", "cpu",
)  # fmt: skip
LONGEST_S = 300


def begin(cache: Path, *arguments: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "STOCHLOC_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "stochloc", *map(str, arguments)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, errors.decode()


def kill_when(
    process: subprocess.Popen[bytes], is_time: Callable[[], bool], delay_s: float
) -> bool:
    """Kill a process a moment after something has happened; whether it was still at work."""
    until = time.monotonic() + LONGEST_S
    while process.poll() is None and not is_time():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.002)
    time.sleep(delay_s)
    is_killed = process.poll() is None
    process.kill()
    _, errors = process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0), errors.decode()
    return is_killed


def check_files(folder: Path) -> None:
    """Every file under a final name is whole."""
    for path in folder.rglob("*"):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    file.get_tensor(name)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss_bits"] for line in lines if "loss_bits" in line}


def checkpoints(folder: Path) -> set[tuple[str, int]]:
    """The checkpoints and results there are, and when each was written."""
    found = set()
    for pattern in ("checkpoint.safetensors", "result.json"):
        for path in folder.rglob(pattern):
            try:
                found.add((str(path), path.stat().st_mtime_ns))
            except FileNotFoundError:  # a trial ended in between
                continue
    return found


def kill_after_a_checkpoint(process: subprocess.Popen[bytes], folder: Path, delay_s: float) -> bool:
    """Kill a process a moment after it has written a checkpoint, perhaps in the next one."""
    before = checkpoints(folder)
    return kill_when(process, lambda: checkpoints(folder) - before != set(), delay_s)


def kill_on_the_way(process: subprocess.Popen[bytes], folder: Path, longest_s: float) -> bool:
    """Kill a process after a time, counted from its start, or at its next checkpoint if sooner."""
    before, until = checkpoints(folder), time.monotonic() + longest_s
    return kill_when(
        process, lambda: time.monotonic() > until or checkpoints(folder) - before != set(), 0
    )


def test_training_killed_thirty_times_has_the_losses_of_a_run_that_was_not(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT * 40, encoding="utf-8")
    whole, cut, cache = tmp_path / "whole", tmp_path / "cut", tmp_path / "cache"
    train = ("train", "--data", tmp_path / "text.txt", *TINY, "--steps", 900, "--eval-every", 50,
             "--checkpoint-every", 2, "--out")  # fmt: skip
    finish(begin(cache, *train, whole))
    chance, kills = random.Random(0), 0
    while kills < 30:
        is_begun = (cut / "recipe.json").exists()
        resume = ("train", "--out", cut, "--resume", "--accelerator", "cpu")
        process = begin(cache, *(resume if is_begun else (*train, cut)))
        if kills % 6 == 0:  # anywhere from the start of the program, before there is a run at all
            is_killed = kill_on_the_way(process, cut, chance.uniform(0, 4))
        else:
            is_killed = kill_after_a_checkpoint(process, cut, chance.uniform(0, 0.1))
        assert is_killed, f"the run was over after {kills} kills"
        kills += 1
        check_files(cut)
    finish(begin(cache, "train", "--out", cut, "--resume", "--accelerator", "cpu"))
    assert losses(cut) == losses(whole)
    assert len(losses(whole)) >= 90
    for name in ("checkpoint.safetensors", "model.safetensors"):
        one, other = load_file(cut / name), load_file(whole / name)
        assert one.keys() == other.keys()
        assert all(bool((one[key] == other[key]).all()) for key in one)


def test_a_corpus_killed_ten_times_while_it_is_encoded_is_the_corpus(tmp_path):
    words = random.Random(1).choices(["ein", "zwei", "drei", "vier", "fünf"], k=8_000_000)
    (tmp_path / "text.txt").write_text(" ".join(words), encoding="utf-8")
    train = ("train", "--data", tmp_path / "text.txt", "--tokenizer", "text8", *TINY, "--steps", 1)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(begin(whole, *train, "--out", tmp_path / "first"))
    chance, torn = random.Random(2), 0
    for number in range(10):
        left = set(cut.glob("*"))
        process = begin(cut, *train, "--out", tmp_path / f"cut-{number}")
        is_writing = lambda: bool(set(cut.glob("*")) - left)  # noqa: E731, B023
        assert kill_when(process, is_writing, chance.uniform(0, 0.1))
        check_files(cut)
        torn += not any(cut.glob("*.json"))
        for tokens in cut.glob("*.tokens"):
            assert tokens.read_bytes() == (whole / tokens.name).read_bytes()
        for path in [*cut.glob("*.tokens"), *cut.glob("*.json")]:  # the next one encodes again
            path.unlink()
    assert torn >= 5, "most were killed too late"
    finish(begin(cut, *train, "--out", tmp_path / "last"))
    assert not list(cut.glob("*.partial")), "what was killed has been swept"
    one, other = (load_file(tmp_path / run / "model.safetensors") for run in ("first", "last"))
    assert all(bool((one[key] == other[key]).all()) for key in one)


def results(folder: Path) -> dict[str, object]:
    return {
        path.parent.name: figures(json.loads(path.read_text(encoding="utf-8")))
        for path in folder.glob("trials/*/result.json")
    }


def test_a_comparison_killed_twelve_times_finds_what_one_that_was_not_finds(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT * 40, encoding="utf-8")
    cache, whole, cut = tmp_path / "cache", tmp_path / "whole", tmp_path / "cut"
    compare = ("compare", "--data", tmp_path / "text.txt", "--methods", "ar,mdlm,multinomial",
               "--budget", "updates=2000", *SMALL, "--out")  # fmt: skip
    finish(begin(cache, *compare, whole))
    chance = random.Random(3)
    for kills in range(12):
        process = begin(cache, *compare, cut)
        is_killed = kill_after_a_checkpoint(process, cut, chance.uniform(0, 0.5))
        assert is_killed, f"the comparison was over after {kills} kills"
        check_files(cut)
    finish(begin(cache, *compare, cut))
    assert results(cut) == results(whole)
    assert len(results(whole)) == 3
