"""One tiny run and its text, shared by the tests of the tasks."""

import json
import sys

import pytest
import torch

from stochloc.cli import main
from stochloc.training.seeds import seeded_streams

TEXT = "the quick brown fox jumps over the lazy dog and runs away. "
TRAIN = (
    "--steps", "4", "--length", "16", "--width", "16", "--depth", "1", "--heads", "2",
    "--batch-size", "4", "--eval-every", "2", "--checkpoint-every", "2", "--accelerator", "cpu",
)  # fmt: skip


def streams(seed, num):
    """The random streams of `num` sequences in tasks: each is named by its number."""
    return seeded_streams(torch.device("cpu"), seed, ((n,) for n in range(num)))


def figures(result):
    """What a result says, without what the clock says."""
    timed = {"seconds", "cpu_seconds_per_update", "scoring_seconds", "seconds_per_sample"}

    def strip(value):
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key not in timed}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(result)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    """No test reads or writes the user's cache of tokens."""
    monkeypatch.setenv("STOCHLOC_CACHE", str(cache))


@pytest.fixture(scope="session")
def trained(tmp_path_factory, cache):
    """A folder with a text and a run on it; tests may read it, never write."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT * 40, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        main(["train", "--data", str(folder / "text.txt"), "--out", str(folder / "run"), *TRAIN])
    return folder


@pytest.fixture(scope="session")
def encoder(trained, tmp_path_factory, cache):
    """The folder of a run like `trained`'s, of a network that looks at the token it predicts."""
    folder = tmp_path_factory.mktemp("encoder") / "run"
    data = ("--data", str(trained / "text.txt"), "--architecture", "encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        main(["train", *data, "--out", str(folder), *TRAIN])
    return folder


@pytest.fixture(scope="session")
def slotted(trained, tmp_path_factory, cache):
    """The folder of a run like `trained`'s, of texts in slots."""
    folder = tmp_path_factory.mktemp("slotted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        data = ("--data", str(trained / "text.txt"))
        main(["train", *data, "--out", str(folder), "--slots", *TRAIN])
    return folder


@pytest.fixture
def call(capsys):
    """Run a command and return what it printed to stdout and to stderr."""

    def run(*arguments):
        capsys.readouterr()
        main([str(argument) for argument in arguments])
        return capsys.readouterr()

    return run


@pytest.fixture
def call_json(call):
    """Run a command whose whole stdout is one JSON object, and return it."""
    return lambda *arguments: json.loads(call(*arguments, "--json").out)


@pytest.fixture
def call_traced(call):
    """Run a walk that tells its steps, and return the result, which comes last."""
    return lambda *arguments: json.loads(call(*arguments, "--trace").out.splitlines()[-1])


@pytest.fixture
def refuse(capsys):
    """Run a command that must end with code 2 and one sentence, and return the sentence."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        assert stopped.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        said = [line for line in captured.err.splitlines() if line.startswith("stochloc: ")]
        assert len(said) == 1, captured.err
        assert captured.err.rstrip().endswith(said[0])
        assert "Traceback" not in captured.err
        return said[0]

    return run


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Set which hub is asked; all that was fetched before is forgotten."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    # Requests that were given up still go on in this process, and would draw their bars.
    bars = sys.modules["huggingface_hub.utils.tqdm"].progress_bar_states
    monkeypatch.setitem(bars, "_global", False)

    def ask(url):
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)

    return ask
