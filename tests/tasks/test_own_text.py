"""A run's text is recognised by its tokens wherever it is, and no other text is used for it."""

import json
import shutil

import pytest
from tasks.conftest import TEXT, TRAIN

from stochloc.cli import main
from stochloc.tasks.correct.calibration import FALLBACK_THRESHOLD, correction_defaults
from stochloc.tasks.data_choice import absolute_data
from stochloc.tasks.own_text import own_text
from stochloc.tasks.runs import open_run

pytestmark = pytest.mark.bulk

OTHER = TEXT.replace("fox", "cat") * 40
FEW = ("--sequences", 2, "--steps", 2)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a run trained on base.txt there, and another with another base.txt."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder, text in ((here, TEXT * 40), (elsewhere, OTHER)):
        folder.mkdir()
        (folder / "base.txt").write_text(text)
    monkeypatch.chdir(here)
    # Which text is measured on is the question here, not how much of it.
    monkeypatch.setattr("stochloc.tasks.tune.KNOWN_SHARES", 2)
    monkeypatch.setattr("stochloc.tasks.tune.SNR_LEVELS", (0, 1, 4))
    monkeypatch.setattr("stochloc.tasks.tune.REPORTED_STEPS", (4,))
    monkeypatch.setattr("stochloc.tasks.correct.calibration.NUM_WINDOWS", 5)
    main(["train", "--data", "base.txt", "--out", "run", *TRAIN])
    return tmp_path


def test_eval_tune_plot_and_correct_take_the_runs_own_text_from_any_folder(
    place, call, call_json, monkeypatch
):
    expected = call_json("eval", "run", *FEW)
    assert expected["text"] == "the test part of base.txt"
    monkeypatch.chdir(place / "elsewhere")
    assert call_json("eval", "../here/run", *FEW) == expected
    run = open_run("../here/run")
    assert run.tokenizer.decode(own_text(run).train) == (TEXT * 40)[: len(own_text(run).train)]
    call("tune", "../here/run", "--sequences", 1)
    assert correction_defaults(run).clean_changes is not None


def test_no_command_measures_on_another_text_in_its_place(place, call, refuse, monkeypatch):
    (place / "here" / "base.txt").unlink()
    monkeypatch.chdir(place / "elsewhere")
    for command in (("eval", *FEW), ("tune", "--sequences", 1)):
        sentence = refuse(command[0], "../here/run", *command[1:])
        assert "base.txt has changed or holds another text" in sentence
        assert f"There is no file {place / 'here' / 'base.txt'}" in sentence
    sentence = refuse("plot", "error", "../here/run", "--out", place / "figures", "--sequences", 2)
    assert "restore it, or give its place with --data" in sentence
    said = call("correct", "../here/run", "the fox", "--one-pass").err
    assert "has changed or holds another text" in said
    assert "one wrong character in twenty" in said
    assert not (place / "here" / "run" / "correction.json").exists()


def test_settings_measured_on_another_text_are_measured_again(place):
    run = open_run("run")
    kept = {"snr": 1.0, "threshold": 0.5, "clean_changes": 0.0, "errors_left": 0.0}
    for text in ({}, {"text": "of another text"}):
        (place / "here" / "run" / "correction.json").write_text(json.dumps({**kept, **text}))
        assert correction_defaults(run).snr != 1.0


def test_a_moved_text_is_still_the_runs_own_with_its_parts(place, call_json, refuse):
    expected = call_json("eval", "run", *FEW)
    shutil.move("base.txt", "moved.txt")
    assert "There is no file base.txt" in refuse("eval", "run", *FEW)
    moved = call_json("eval", "run", "--data", "moved.txt", *FEW)
    assert {**moved, "text": ""} == {**expected, "text": ""}
    assert moved["text"] == "the test part of moved.txt"
    assert "holds another" in refuse("tune", "run", "--data", place / "elsewhere" / "base.txt")
    assert call_json("tune", "run", "--data", "moved.txt", "--sequences", 1)["sequences"] == 1
    assert correction_defaults(open_run("run")).threshold == FALLBACK_THRESHOLD
    assert correction_defaults(open_run("run"), "moved.txt").clean_changes is not None


def test_training_text_does_not_become_the_test_part_of_a_text_cut_in_half(place, call, refuse):
    (place / "here" / "base.txt").write_text(TEXT * 20)
    assert "has changed" in refuse("eval", "run", *FEW)
    for split in ((), ("--split", "test")):
        assert "has changed since" in refuse("eval", "run", "--data", "base.txt", *split, *FEW)
    assert (
        "all of base.txt" in call("eval", "run", "--data", "base.txt", "--split", "all", *FEW).out
    )
    shutil.move("base.txt", "half.txt")
    assert "all of half.txt" in call("eval", "run", "--data", "half.txt", *FEW).out
    named = call("eval", "run", "--data", "half.txt", "--split", "test", *FEW).out
    assert "the test part of half.txt, which is not the text of the run" in named


def test_a_run_is_resumed_from_any_folder_with_the_same_tokens_and_no_others(
    place, call, refuse, monkeypatch
):
    before = (place / "here" / "run" / "model.safetensors").read_bytes()
    monkeypatch.chdir(place / "elsewhere")
    call("train", "--out", "../here/run", "--resume")
    for data in ("../here/base.txt", place / "here" / "base.txt"):
        call("train", "--out", "../here/run", "--resume", "--data", data)
    arguments = ("train", "--out", "../here/run", "--resume", "--data")
    assert "data would differ" in refuse(*arguments, place / "elsewhere" / "base.txt")
    assert "There is no file nowhere.txt" in refuse(*arguments, "nowhere.txt")
    assert (place / "here" / "run" / "model.safetensors").read_bytes() == before


def test_held_out_files_of_their_own_are_found_again_too(place, call_json, monkeypatch):
    monkeypatch.chdir(place / "here")
    for name in ("valid", "test"):
        (place / "here" / f"{name}.txt").write_text(TEXT * 3)
    main(["train", "--data", "base.txt", "--valid", "valid.txt", "--test", "test.txt",
          "--out", "own", *TRAIN])  # fmt: skip
    expected = call_json("eval", "own", *FEW)
    monkeypatch.chdir(place / "elsewhere")
    assert call_json("eval", "../here/own", *FEW) == expected
    shutil.move("../here/base.txt", "../here/moved.txt")
    moved = call_json("eval", "../here/own", "--data", "../here/moved.txt", *FEW)
    assert moved["nats_per_sequence"] == expected["nats_per_sequence"]


def test_labelled_texts_are_known_from_any_folder(place, call_json, monkeypatch):
    for name, text in (("a", TEXT), ("b", TEXT.upper())):
        (place / "here" / f"{name}.txt").write_text(text * 20)
    main(["train", "--data", "A=a.txt,B=b.txt", "--out", "labelled", *TRAIN])
    expected = call_json("eval", "labelled", *FEW)
    monkeypatch.chdir(place / "elsewhere")
    assert call_json("eval", "../here/labelled", *FEW) == expected


def test_a_text_of_classes_is_refused_for_a_model_without(place, refuse):
    sentence = refuse("eval", "run", "--data", "A=base.txt,B=base.txt", *FEW)
    assert "trained without classes" in sentence


def test_where_a_text_is_absolutely(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text8").touch()
    assert absolute_data("base.txt") == str(tmp_path / "base.txt")
    assert absolute_data("A=a,B=b") == f"A={tmp_path / 'a'},B={tmp_path / 'b'}"
    assert absolute_data("builtin") == "builtin"
    assert absolute_data("text8") == str(tmp_path / "text8")
    assert absolute_data("-") == "-"


def test_a_run_of_an_older_version_takes_the_text_of_its_name(place, call_json):
    expected = call_json("eval", "run", *FEW)
    path = place / "here" / "run" / "recipe.json"
    recipe = json.loads(path.read_text())
    del recipe["where"], recipe["fingerprint"]
    path.write_text(json.dumps(recipe))
    assert call_json("eval", "run", *FEW) == expected
    assert call_json("eval", "run", "--data", "base.txt", *FEW) == expected


@pytest.mark.parametrize(
    "value", [1, {"data": 1}, {"test": 1}, {"nothing": ""}, {"fractions": "x"}]
)
def test_a_recipe_that_does_not_say_where_its_text_is_is_refused(place, refuse, value):
    path = place / "here" / "run" / "recipe.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "where": value}))
    assert refuse("eval", "run", *FEW)
