"""Signals: noted during an update, handled after it, and at once where nothing is lost."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from stochloc.cli import main
from stochloc.training.exclusive import exclusive
from stochloc.training.interruption import Interruption, Stopped

pytestmark = pytest.mark.bulk

TEXT = "the quick brown fox jumps over the lazy dog and runs away. " * 40
SETTINGS = (
    "--length", "16", "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "4",
    "--eval-every", "100000", "--checkpoint-every", "100000", "--accelerator", "cpu",
)  # fmt: skip
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_a_signal_is_noted_and_handled_at_the_next_check(number):
    before = signal.getsignal(number)
    with Interruption() as interruption:
        interruption.check()
        signal.raise_signal(number)
        assert interruption.signum == number
        with pytest.raises(Stopped) as stopped:
            interruption.check()
        assert stopped.value.exit_code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert signal.getsignal(number) is before


@BOTH
def test_the_same_signal_again_stops_at_once_and_another_does_not(number):
    other = signal.SIGTERM if number == signal.SIGINT else signal.SIGINT
    with Interruption() as interruption:
        signal.raise_signal(number)
        signal.raise_signal(other)
        assert interruption.signum == number
        with pytest.raises(Stopped):
            signal.raise_signal(number)


@BOTH
def test_what_may_be_torn_is_torn_and_what_was_asked_before_it_never_begins(number):
    with Interruption() as interruption:
        with pytest.raises(Stopped), interruption.at_once():
            signal.raise_signal(number)
            pytest.fail("the block went on")
        with pytest.raises(Stopped), interruption.at_once():
            pytest.fail("the block began")


@BOTH
def test_after_interruptible_work_a_signal_is_only_noted(number):
    with Interruption() as interruption:
        with interruption.at_once():
            pass
        signal.raise_signal(number)
        assert interruption.signum == number


def test_a_hangup_is_noted_however_often_it_comes():
    with Interruption() as interruption:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        with pytest.raises(Stopped) as stopped:
            interruption.check()
        assert stopped.value.exit_code == 129


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(number)
            interruption.check()
    finally:
        signal.signal(number, before)


def test_outside_the_main_thread_signals_are_left_alone():
    handlers = []

    def work():
        with Interruption():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]


def test_a_folder_is_locked_by_one_process_and_released_when_that_is_killed(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from stochloc.training.exclusive import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="Another process"), exclusive(tmp_path):
            pytest.fail("two hold the folder")
        holder.kill()
        holder.wait()
    with exclusive(tmp_path):
        pass


def begin(place, *arguments):
    environment = {**os.environ, "STOCHLOC_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "stochloc", *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for_updates(run):
    until = time.monotonic() + 60
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 2):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text and a run on it that nothing cut off."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(folder / "cache"))
        main(["train", "--data", str(folder / "text.txt"), *SETTINGS, "--steps", "300", "--out",
              str(folder / "whole")])  # fmt: skip
        yield folder


@pytest.mark.bulk
@pytest.mark.parametrize("number", [
    pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM,
])  # fmt: skip
def test_a_signal_saves_the_run_within_seconds_and_it_resumes_to_the_same_model(
    place, tmp_path, number
):
    cut = tmp_path / "cut"
    process = begin(place, "train", "--data", place / "text.txt", *SETTINGS, "--steps", "300",
                    "--out", cut)  # fmt: skip
    wait_for_updates(cut)
    process.send_signal(number)
    sent_s = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - sent_s < 20
    assert process.returncode == 128 + number, errors
    assert b"saved" in errors
    assert b"Traceback" not in errors
    with safe_open(cut / "checkpoint.safetensors", framework="pt") as file:
        assert 0 < int(file.metadata()["step"]) < 300
    main(["train", "--out", str(cut), "--resume", "--accelerator", "cpu"])
    one, other = (load_file(run / "checkpoint.safetensors") for run in (cut, place / "whole"))
    assert all(bool((one[name] == other[name]).all()) for name in one)


@pytest.mark.slow
def test_a_second_process_in_the_same_run_is_refused_and_disturbs_nothing(place, tmp_path, capsys):
    run = tmp_path / "run"
    process = begin(place, "train", "--data", place / "text.txt", *SETTINGS, "--steps", "100000",
                    "--out", run)  # fmt: skip
    wait_for_updates(run)
    with pytest.raises(SystemExit) as refused:
        main(["train", "--out", str(run), "--resume", "--accelerator", "cpu"])
    assert refused.value.code == 2
    assert "Another process" in capsys.readouterr().err
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
