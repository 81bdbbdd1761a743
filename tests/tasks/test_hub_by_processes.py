"""Two processes that open a model of the hub: one download, and one sentence if there is none."""

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from safetensors.torch import load_file
from tasks.hub_stand_in import NAME, SHA, serving
from torch.distributed.rendezvous import TCPStore

from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.hardware import Hardware
from stochloc.tasks.parent import Parent
from stochloc.tasks.train import start_from
from stochloc.training.checkpoint import FILE_NAME
from stochloc.training.processes import _Sign, _State

pytestmark = [pytest.mark.bulk, pytest.mark.slow]

SETTINGS = ("--steps", 3, "--eval-every", 1, "--batch-size", 4, "--accelerator", "cpu")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
# How two processes are started, and what the command is told of them.
WAYS = {"itself": ((), ("--devices", "2")), "torchrun": (TORCHRUN, ())}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture
def start(trained, tmp_path):
    """Start a command as one way has it, with a hub of its own address and an empty cache."""

    def begin(url, way, *arguments):
        before, after = WAYS.get(way, ((), ()))
        port = ("--master-port", free_port()) if before else ()
        environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hub"),
                       "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1",
                       "STOCHLOC_CACHE": str(tmp_path / "cache")}  # fmt: skip
        words = (*before, *port, "-m", "stochloc", *arguments, *after)
        return subprocess.Popen([sys.executable, *map(str, words)], env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

    return begin


def ended(process, limit_s=300):
    output, errors = process.communicate(timeout=limit_s)
    return process.returncode, output.decode(), errors.decode()


@pytest.fixture
def files(trained):
    return {path.name: path.read_bytes() for path in (trained / "run").iterdir()
            if path.suffix == ".json" or path.name == "model.safetensors"}  # fmt: skip


def downloads(stand_in):
    return [path for method, path in stand_in.asked if method == "GET" and SHA in path
            and "/resolve/" in path]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_download_a_model_once_and_train_it_as_one_process_trains_its_folder(
    trained, start, files, tmp_path, way
):
    train = ("train", "--data", trained / "text.txt", *SETTINGS)
    with serving(files) as stand_in:
        first = start("", "one", *train, "--from", trained / "run", "--out", tmp_path / "one")
        both = start(stand_in.url, way, *train, "--from", NAME, "--out", tmp_path / "both")
        code, _, errors = ended(both)
        assert code == 0, errors
        assert sorted(downloads(stand_in)) == sorted(f"/{NAME}/resolve/{SHA}/{f}" for f in files)
    assert errors.count("Asking the Hugging Face hub") == 1, errors
    assert errors.count("The model is in") == 1, errors
    assert errors.count(f"Fetching {len(files)} files:   0%") == 1, errors
    code, _, errors = ended(first)
    assert code == 0, errors
    one, two = (load_file(tmp_path / name / FILE_NAME) for name in ("one", "both"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-5, rtol=2e-5, msg=name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("has_hub", [True, False])
def test_without_the_model_or_the_hub_both_processes_end_with_one_sentence(
    trained, start, files, tmp_path, way, has_hub
):
    train = ("train", "--data", trained / "text.txt", *SETTINGS, "--out", tmp_path / "out")
    with serving(files) as stand_in:
        url = stand_in.url if has_hub else f"http://127.0.0.1:{free_port()}"
        code, _, errors = ended(start(url, way, *train, "--from", "owner/nmae"))
    # torchrun has a code of its own, and reports that of a process.
    assert code == 2 or (way == "torchrun" and "exitcode  : 2" in errors), errors
    said = [line for line in errors.splitlines() if line.startswith("stochloc: ")]
    assert len(said) == 1, errors
    assert ("or log in with: hf auth login." if has_hub else "or try again later.") in said[0]
    assert "owner/nmae is neither a folder here nor a model" in said[0]
    assert "stochloc/cli" not in errors  # no trace of ours; torchrun shows its own
    assert not (tmp_path / "out").exists()


def test_others_hear_of_a_process_of_torchrun_that_cannot_open_the_model(tmp_path, monkeypatch):
    """One on another machine would otherwise wait, and then tell that the process is gone."""
    store = TCPStore("localhost", 0, is_master=True, timeout=timedelta(seconds=20))
    values = {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": store.port,
              "TORCHELASTIC_USE_AGENT_STORE": True}  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))

    def fail(name, mask_lead):
        raise ValueError(f"{name} cannot be fetched")

    monkeypatch.setattr(Parent, "open", fail)
    with pytest.raises(ValueError, match=f"{NAME} cannot be fetched"):
        start_from(NAME, tmp_path / "out", DataChoice("text.txt"), {}, Hardware("cpu"))
    assert _Sign.decode(store.get("stochloc/sign/1")).state is _State.FAILED
    assert not (tmp_path / "out").exists()


def test_two_processes_score_a_file_with_a_model_of_the_hub_as_one_does(
    trained, start, files, tmp_path
):
    words = sorted(set((trained / "text.txt").read_text("utf-8").split()))
    (tmp_path / "lines.txt").write_text("\n".join(words), encoding="utf-8")
    score = ("score", NAME, tmp_path / "lines.txt", "--out")
    one = ("score", trained / "run", tmp_path / "lines.txt", "--out", tmp_path / "one.jsonl")
    with serving(files) as stand_in:
        alone = start("", "one", *one)
        code, output, errors = ended(
            start(stand_in.url, "torchrun", *score, tmp_path / "both.jsonl")
        )
        assert code == 0, errors
        assert len(downloads(stand_in)) == len(files)
    assert output.splitlines() == [f"{tmp_path}/both.jsonl: {len(words)} records"]
    assert errors.count("Asking the Hugging Face hub") == 1, errors
    code, _, errors = ended(alone)
    assert code == 0, errors
    alike = [[json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]
             for name in ("one.jsonl", "both.jsonl")]  # fmt: skip
    for own, other in zip(*alike, strict=True):
        assert (own["record"], own["text"]) == (other["record"], other["text"])
        assert own["nats"] == pytest.approx(other["nats"], rel=1e-4)
