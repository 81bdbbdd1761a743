"""Files that are worked on record by record: killed, in several processes, in bounded memory."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trust.conftest import TINY
from trust.test_kills import begin, finish, kill_when

pytestmark = [pytest.mark.slow, pytest.mark.bulk]

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "away"]


def write_lines(path: Path, num_lines: int) -> None:
    chance = random.Random(num_lines)
    lines = (" ".join(chance.choices(WORDS, k=chance.randint(1, 9))) for _ in range(num_lines))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    write_lines(folder / "text.txt", 2_000)
    data = ("--data", folder / "text.txt", "--tokenizer", "text8")
    finish(begin(folder / "cache", "train", *data, *TINY, "--steps", 4, "--out", folder / "run"))
    return folder


def test_a_file_killed_at_ten_moments_while_it_is_scored_has_the_bytes_of_one_that_was_not(
    place, tmp_path
):
    cache, whole, cut = place / "cache", tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    write_lines(tmp_path / "lines.txt", 120_000)
    score = ("score", place / "run", tmp_path / "lines.txt", "--out")
    finish(begin(cache, *score, whole))
    chance = random.Random(0)
    for kills in range(10):
        before = cut.stat().st_size if cut.exists() else 0
        is_time = lambda: cut.exists() and cut.stat().st_size > before  # noqa: E731, B023
        if kills % 5 == 0:  # before anything is written
            is_time = lambda: True  # noqa: E731
        process = begin(cache, *score, cut)
        assert kill_when(process, is_time, chance.uniform(0, 0.5)), f"over after {kills} kills"
        if cut.exists():
            assert whole.read_bytes().startswith(cut.read_bytes())
            with cut.open("ab") as file:  # what a loss of power may leave
                file.write(whole.read_bytes()[cut.stat().st_size :][: chance.randrange(60)])
    finish(begin(cache, *score, cut))
    assert cut.read_bytes() == whole.read_bytes()


def test_a_signal_ends_the_work_with_a_sentence_and_nothing_done_is_lost(place, tmp_path):
    out = tmp_path / "out.jsonl"
    write_lines(tmp_path / "lines.txt", 120_000)
    process = begin(place / "cache", "score", place / "run", tmp_path / "lines.txt", "--out", out)
    while not (out.exists() and out.stat().st_size):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"what was done is saved. The same command continues it." in errors
    assert len(out.read_bytes().splitlines()) > 0


def torchrun(place, *arguments):
    environment = {**os.environ, "STOCHLOC_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
            "--master-port", "29611", "-m", "stochloc", *map(str, arguments)]  # fmt: skip
    return subprocess.run(line, env=environment, capture_output=True, timeout=300, check=False)


def test_two_processes_of_torchrun_make_the_file_that_one_makes(place, tmp_path):
    lines, whole = tmp_path / "lines.txt", tmp_path / "whole.jsonl"
    write_lines(lines, 301)
    correct = ("correct", place / "run", "--file", lines, "--edits", "--out")
    finish(begin(place / "cache", *correct, whole))
    ended = torchrun(place, *correct, tmp_path / "two.jsonl")
    assert ended.returncode == 0, ended.stderr.decode()
    assert ended.stdout.decode().splitlines() == [f"{tmp_path}/two.jsonl: 301 records"]
    assert (tmp_path / "two.jsonl").read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*-of-2*"))
    score = ("score", place / "run", lines, "--out")
    finish(begin(place / "cache", *score, tmp_path / "one.jsonl"))
    assert torchrun(place, *score, tmp_path / "both.jsonl").returncode == 0
    files = ((tmp_path / name).read_text() for name in ("one.jsonl", "both.jsonl"))
    for one, both in zip(*([*map(json.loads, file.splitlines())] for file in files), strict=True):
        assert (one["record"], one["text"]) == (both["record"], both["text"])
        assert one["nats"] == pytest.approx(both["nats"], rel=1e-4)


def peak_megabytes(cache, *arguments):
    process = begin(cache, *arguments)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    with process.stderr as errors:
        assert process.returncode == 0, errors.read().decode()
    return usage.ru_maxrss / 1024


def test_memory_does_not_grow_with_the_file(place, tmp_path):
    """Eight batches take what two take, save for a little that the allocator leaves."""
    peaks = []
    for num_lines in (16_384, 65_536):
        write_lines(tmp_path / "lines.txt", num_lines)
        out = tmp_path / f"{num_lines}.jsonl"
        peaks.append(
            peak_megabytes(
                place / "cache", "score", place / "run", tmp_path / "lines.txt", "--out", out
            )
        )
    assert peaks[1] - peaks[0] < 40
