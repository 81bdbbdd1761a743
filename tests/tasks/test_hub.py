"""Finding a run: mistyped folders are not looked up, and no request to the hub takes long."""

import shutil
import socket
import time

import pytest
from tasks.hub_stand_in import serving

from stochloc.tasks.hub import find_run
from stochloc.tasks.runs import RECIPE, open_run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two runs and a folder that is none, in which a command is given."""
    for name in ("good", "better"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / RECIPE).touch()
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "a text").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("name", "sentence"), [
    ("runs/goood", "There is no run in runs/goood; in runs there is: good."),
    ("runs/xyz", "There is no run in runs/xyz; in runs there are: better, good."),
    ("./runs/goood", "There is no run in runs/goood; in runs there is: good."),
    ("runs", "runs is not the folder of a run: recipe.json is missing; in runs there are: "
             "better, good."),
    ("runs/a text", "runs/a text is not the folder of a run: it is a file."),
    ("runs/notes/x", "There is no run in runs/notes/x; make one with: stochloc train --data FILE "
                     "--out runs/notes/x"),
    ("my run", "There is no run in my run; make one with: stochloc train --data FILE --out "
               "'my run'"),
    ("here/there/x", "There is no run in here/there/x: there is no folder here/there."),
    ("~/x/y", "/x/y: there is no folder "),
    ("../x/y", "There is no run in ../x/y: there is no folder ../x."),
])  # fmt: skip
def test_what_may_be_a_mistyped_folder_is_asked_of_no_hub(folder, monkeypatch, name, sentence):
    def ask(*arguments, **options):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("stochloc.tasks.hub.HfApi", ask)
    with pytest.raises(ValueError, match=r".") as refused:
        find_run(name, RECIPE)
    assert sentence in str(refused.value)


def test_a_folder_is_found_under_its_name_and_from_home(folder):
    assert find_run("runs/good", RECIPE).samefile(folder / "runs" / "good")
    assert find_run("~/runs/good", RECIPE).samefile(folder / "runs" / "good")


def test_without_a_home_models_of_the_hub_are_kept_in_a_temporary_folder(folder, hub, monkeypatch):
    def no_home(*path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", no_home)
    monkeypatch.setattr("pathlib.Path.expanduser", no_home)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("stochloc.tasks.hub.HfApi.model_info", lambda *name, **settings: None)
    asked = []

    def fetch(self, name, **settings):
        asked.append(settings["cache_dir"])
        return folder / "runs" / "good"

    monkeypatch.setattr("stochloc.tasks.hub.HfApi.snapshot_download", fetch)
    assert find_run("owner/model", RECIPE) == folder / "runs" / "good"
    assert [cache.parent.parent for cache in asked] == [folder]
    with pytest.raises(ValueError, match="There is no run in ~nobody/x"):
        find_run("~nobody/x", RECIPE)


def test_a_hub_request_is_announced_and_abandoned_if_never_answered(
    folder, hub, monkeypatch, capsys
):
    monkeypatch.setattr("stochloc.tasks.hub.ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub(f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun_s = time.monotonic()
        with pytest.raises(
            ValueError, match=r"nor a model that can be fetched .*(no answer|timed out)"
        ):
            find_run("nobody/nothing", RECIPE)
        assert time.monotonic() - begun_s < 5
    assert "Asking the Hugging Face hub" in capsys.readouterr().err


def test_without_a_connection_the_answer_comes_at_once(folder, hub, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    hub(f"http://127.0.0.1:{port}")
    with pytest.raises(ValueError, match=r"fetched from the hub now .*refused"):
        find_run("nobody/nothing", RECIPE)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"fetched from the hub now .*offline"):
        find_run("nobody/nothing", RECIPE)


def test_a_model_of_the_hub_is_opened_and_cached_for_when_the_hub_is_unreachable(
    trained, folder, hub, capsys
):
    files = {p.name: p.read_bytes() for p in (trained / "run").iterdir() if p.suffix == ".json"}
    files["model.safetensors"] = (trained / "run" / "model.safetensors").read_bytes()
    with serving({**files, "model.pkl": b"never fetched"}) as stand_in:
        hub(stand_in.url)
        run = open_run("owner/name")
        assert run.tokenizer.to_dict() == open_run(trained / "run").tokenizer.to_dict()
        assert {path.name for path in run.folder.iterdir()} == files.keys()
        with pytest.raises(ValueError, match="check its name, or log in"):
            open_run("owner/another")
    capsys.readouterr()
    assert open_run("owner/name").folder == run.folder
    assert "does not answer" in capsys.readouterr().err
    shutil.rmtree(folder / "hub")
    with pytest.raises(ValueError, match="try again later"):
        open_run("owner/name")


@pytest.mark.parametrize("command", [
    ("sample", "owner/name", "--n", "1", "--length", "8"), ("score", "owner/name", "lines.txt"),
    ("infill", "owner/name", "th_ fox"), ("correct", "owner/name", "teh fox", "--one-pass"),
    ("eval", "owner/name", "--data", "long.txt", "--sequences", "2", "--split", "all"),
])  # fmt: skip
def test_a_command_asks_the_hub_for_its_model_once(trained, folder, hub, call, command):
    names = ("model.safetensors", *(path.name for path in (trained / "run").glob("*.json")))
    (folder / "lines.txt").write_text("the fox\n")
    (folder / "long.txt").write_text("the quick brown fox jumps " * 20)
    with serving({name: (trained / "run" / name).read_bytes() for name in names}) as stand_in:
        hub(stand_in.url)
        shown = call(*command)
    assert shown.err.count("Asking the Hugging Face hub for a model of this name") == 1
