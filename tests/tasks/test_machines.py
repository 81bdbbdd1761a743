"""Several machines: who says how many there are, where they meet, and what they must have alike."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from tasks.conftest import TRAIN

from stochloc.tasks.hardware import Hardware, resumed_hardware
from stochloc.tasks.machines import as_started, meeting_place

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6", "GROUP_WORLD_SIZE": "3",
}  # fmt: skip
MEETING = {"MASTER_ADDR": "first", "MASTER_PORT": "29500", "NODE_RANK": "1"}


@pytest.fixture
def started(monkeypatch):
    """Be a process that was started with an environment."""

    def by(environment):
        for name in (*TORCHRUN, *MEETING):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return by


def test_torchrun_says_how_many_processes_and_machines_there_are(started):
    started({})
    assert as_started({"devices": None, "num_nodes": 2}) == {"devices": None, "num_nodes": 2}
    started(TORCHRUN)
    alike = {"devices": 2, "num_nodes": 3, "strategy": "fsdp"}
    assert as_started({"devices": None, "num_nodes": None, "strategy": "fsdp"}) == alike
    assert as_started(alike) == alike
    assert Hardware("cpu", devices=2, num_nodes=3).resolved().strategy == "ddp"
    with pytest.raises(ValueError, match="each of 3 machines: leave out --num-nodes"):
        as_started({"num_nodes": 2})
    started({**TORCHRUN, "WORLD_SIZE": "5"})
    with pytest.raises(ValueError, match="equally many on each"):
        as_started({})


@pytest.mark.parametrize(("change", "reason"), [
    ({"MASTER_ADDR": None, "NODE_RANK": None}, "set MASTER_ADDR, NODE_RANK"),
    ({"NODE_RANK": "2"}, "NODE_RANK is '2': set it to .* from 0 to 1"),
    ({"NODE_RANK": "-1"}, "NODE_RANK"), ({"MASTER_PORT": "0"}, "MASTER_PORT"),
    ({"MASTER_PORT": "http"}, "MASTER_PORT"),
])  # fmt: skip
def test_machines_that_do_not_know_where_they_meet_are_told_what_to_set(started, change, reason):
    started(MEETING)
    assert meeting_place(2) == "first:29500"
    started({name: value for name, value in (MEETING | change).items() if value is not None})
    with pytest.raises(ValueError, match=reason):
        Hardware("cpu", num_nodes=2).resolved()
    assert meeting_place(1) is None


def test_a_run_of_several_machines_goes_on_alone_with_a_warning_and_stays_one_of_several(started):
    kept = Hardware("cpu", 2, "ddp", num_nodes=3)
    started({})
    alone = resumed_hardware(kept, {})
    assert (alone.here, alone.kept) == (replace(kept, num_nodes=1), kept)
    assert alone.warning is not None
    assert "cpu x 2 (ddp) on 3 machines" in alone.warning
    with pytest.raises(ValueError, match="where the 3 machines meet"):
        resumed_hardware(kept, {"num_nodes": 3})
    started(TORCHRUN)
    again = resumed_hardware(kept, as_started({}))
    assert (again.here, again.warning) == (kept, None)


@pytest.mark.slow
@pytest.mark.parametrize(("of_the_second", "reason"), [
    (("--out", "elsewhere/run"), "does not see the run in"),
    (("--out", "run", "--seed", "5"), "has another recipe than the first"),
    (("--out", "run", "--data", "other.txt"), "has another "),
])  # fmt: skip
def test_machines_that_do_not_do_the_same_are_told_once(trained, tmp_path, of_the_second, reason):
    """Two machines that are one: its own address, and a number for each."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "other.txt").write_text("a lazy fox runs over the quick brown dog. " * 40)
    port = str(20_000 + os.getpid() % 20_000)
    started = []
    for number, more in enumerate((("--out", "run"), of_the_second)):
        environment = {
            **os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": str(number),
        }  # fmt: skip
        arguments = ("train", "--data", trained / "text.txt", *TRAIN, "--num-nodes", 2, *more)
        started.append(subprocess.Popen(
            [sys.executable, "-m", "stochloc", *map(str, arguments)], env=environment,
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ))  # fmt: skip
    told = [process.communicate(timeout=300)[1].decode() for process in started]
    assert [process.returncode for process in started] == [2, 2], told
    said = [line for errors in told for line in errors.splitlines() if "Process 2 of 2" in line]
    assert len(said) == 1, told
    assert reason in said[0]
    assert not any("Traceback" in errors for errors in told)
