"""Commands suggested in messages run as printed, whatever the folder's name."""

import shlex
import shutil

import pytest
from tasks.conftest import TEXT, TRAIN

from stochloc.cli import main

NAME = "a run; it's $HOME"


def hinted(told):
    """The words of the command at the end of what was told."""
    return shlex.split(told.splitlines()[-1].partition("stochloc: ")[2].split(": ")[-1])


@pytest.fixture
def named(trained, tmp_path, monkeypatch):
    """A run under a name that a shell would take apart, in the working folder."""
    shutil.copytree(trained / "run", tmp_path / NAME)
    monkeypatch.chdir(tmp_path)


def test_the_hint_at_the_end_of_training_names_the_run(tmp_path, cache, capsys, monkeypatch):
    (tmp_path / "text.txt").write_text(TEXT * 40, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    main(["train", "--data", "text.txt", "--out", NAME, *TRAIN])
    words = shlex.split(capsys.readouterr().err.splitlines()[-1].partition("Try: ")[2])
    assert words == ["stochloc", "sample", NAME]
    main(words[1:])


def test_hints_of_refusals_name_the_run(named, tmp_path, capsys, refuse):
    tune = hinted(refuse("sample", NAME, "--path", "tuned"))
    assert tune == ["stochloc", "tune", NAME, "--transition", "ancestral"]
    (tmp_path / NAME / "model.safetensors").unlink()
    resume = hinted(refuse("sample", NAME))
    assert resume == ["stochloc", "train", "--out", NAME, "--resume"]
    shutil.rmtree(tmp_path / NAME)
    assert hinted(refuse("sample", NAME))[-2:] == ["--out", NAME]
