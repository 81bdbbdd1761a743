"""`push` and `pull`: a run's folder is a repository of the hub, and the other way round."""

import io
import json
import logging
import shutil
import socket
import subprocess
import sys
import time

import pytest
import torch
from tasks.hub_stand_in import NAME, SHA, serving

from stochloc.tasks.model_card import MARK, without_folders
from stochloc.tasks.runs import open_run

# The hub's client calls its own transport in a way that this deprecates.
pytestmark = [pytest.mark.bulk, pytest.mark.filterwarnings("ignore:Use 'content")]


@pytest.fixture
def run(trained, tmp_path):
    """A run of one's own, which a push may write a card into."""
    return shutil.copytree(trained / "run", tmp_path / "run")


@pytest.fixture
def empty(hub, monkeypatch):
    """A hub without the model, and an account that may write."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    with serving(None) as stand_in:
        hub(stand_in.url)
        yield stand_in


@pytest.fixture
def full(empty, run, call):
    """A hub with the run."""
    call("push", run, NAME)
    return empty


def test_a_run_goes_to_the_hub_and_comes_back_the_same(run, empty, call_json, tmp_path):
    pushed = call_json("push", run, NAME, "--private", "--license", "mit")
    assert pushed["url"].endswith(SHA)
    assert pushed["files"].keys() == empty.files.keys()
    (created,) = empty.created
    assert (created["name"], created["organization"]) == ("name", "owner")
    # Under the one name or the other, as the client's version has it.
    assert created.get("private") is True or created.get("visibility") == "private"
    pulled = call_json("pull", NAME, "--out", tmp_path / "copy")
    assert (pulled["revision"], pulled["files"]) == (SHA, pushed["files"])
    own, copy = open_run(run), open_run(tmp_path / "copy")
    for name, tensor in own.model.state_dict().items():
        assert torch.equal(tensor, copy.model.state_dict()[name]), name
    assert (own.recipe, own.tokenizer.to_dict()) == (copy.recipe, copy.tokenizer.to_dict())
    # Nothing was written beside.
    assert {path.name for path in tmp_path.iterdir()} == {"run", "copy", "hub"}


def test_a_pulled_run_with_its_checkpoint_is_trained_on(run, empty, call, trained, tmp_path):
    call("push", run, NAME, "--with-checkpoint")
    call("pull", NAME, "--out", tmp_path / "copy")
    told = call("train", "--out", tmp_path / "copy", "--resume", "--steps", 5, "--data",
                trained / "text.txt")  # fmt: skip
    assert "The model is in" in told.err
    assert open_run(tmp_path / "copy").progress.step == 5


def test_neither_folders_of_this_machine_nor_training_text_is_uploaded(run, empty, call):
    (run / "failure.safetensors").write_bytes(b"a batch of text")
    call("push", run, NAME, "--with-checkpoint")
    full = empty
    assert "failure.safetensors" not in full.files
    recipe = json.loads(full.files["recipe.json"])
    assert "where" in json.loads((run / "recipe.json").read_text("utf-8"))
    assert recipe["data"]["data"] == "text.txt"
    here = str(run.parent.parent)
    assert [name for name, content in full.files.items() if here.encode() in content] == []


@pytest.mark.parametrize(("told", "public"), [
    ("/home/me/a text.txt", "text.txt"), ("a=/home/me/x.txt,b=~/y.txt", "a=x.txt,b=y.txt"),
    ("data/x.txt", "data/x.txt"), ("hf:owner/name", "hf:owner/name"), ("text8", "text8"),
    ("../x.txt", "../x.txt"), ("-", "-"),
])  # fmt: skip
def test_absolute_paths_lose_their_folders(told, public):
    assert without_folders(told).endswith(public)
    assert "/home" not in without_folders(told)


def test_the_card_says_what_was_measured_and_with_which_error(run, empty, call_json, tmp_path):
    (tmp_path / "eval.json").write_text(
        json.dumps(call_json("eval", run, "--sequences", 2, "--steps", 4, "--path", "spread"))
    )
    call_json("push", run, NAME, "--license", "mit", "--figures", tmp_path / "eval.json")
    card = empty.files["README.md"].decode()
    begin, metadata, text = card.split("---\n")
    assert begin == "" and "library_name: stochloc" in metadata and 'license: "mit"' in metadata
    records = map(json.loads, (run / "metrics.jsonl").read_text("utf-8").splitlines())
    measured = [r for r in records if "valid_bits_per_token" in r]
    best = min(measured, key=lambda record: record["valid_bits_per_token"])
    assert f"{best['valid_bits_per_token']:.3f} ± {best['stderr']:.3f} bits per token" in text
    own = json.loads((tmp_path / "eval.json").read_text("utf-8"))
    assert f"{own['bits_per_token']:.3f} ± {own['stderr']:.3f} bits per token" in text
    assert "spread path, 2 windows" in text
    assert f'stochloc.open_run("{NAME}")' in text


def test_a_card_of_ones_own_stays_and_another_is_written_anew(run, empty, call, refuse):
    for text, is_kept in ((f"{MARK}\nold", False), ("mine", True)):
        (run / "README.md").write_text(text, encoding="utf-8")
        call("push", run, NAME)
        assert (empty.files["README.md"] == text.encode()) == is_kept
    assert "write figures and license into it" in refuse("push", run, NAME, "--license", "mit")


def test_a_second_push_takes_away_what_is_no_longer_true_and_nothing_else(run, full, call):
    full.files |= {"LICENSE": b"mine", "old_last.json": b"{}", "sub/a.json": b"{}"}
    call("push", run, NAME, "--with-checkpoint")
    assert "checkpoint.safetensors" in full.files
    call("push", run, NAME)
    assert {"LICENSE", "sub/a.json"} <= full.files.keys()
    assert not {"old_last.json", "checkpoint.safetensors"} & full.files.keys()
    assert len(full.commits) == 3


def test_a_dry_run_asks_nobody(run, empty, call_json):
    listed = call_json("push", run, NAME, "--dry-run")
    assert (empty.asked, empty.files, listed["url"]) == ([], None, None)
    assert "README.md" in listed["files"] and (run / "README.md").exists()


def test_whoever_may_not_write_is_told_so_in_one_sentence(run, empty, refuse, monkeypatch):
    assert "a run to upload is one of this machine" in refuse("push", "owner/x", NAME)
    monkeypatch.setenv("HF_TOKEN", "another")
    assert "does not let this account write to owner/name" in refuse("push", run, NAME)
    assert empty.files is None
    for name in ("no-owner", "a/b/c", "ä/b", "/abs", "a/b?"):
        assert "named owner/name" in refuse("push", run, name)
    assert "--timeout must be above 0" in refuse("push", run, NAME, "--timeout", 0)
    assert "There is no file" in refuse("push", run, NAME, "--figures", run / "none.json")
    assert "not what stochloc eval --json prints" in refuse(
        "push", run, NAME, "--figures", run / "config.json"
    )
    monkeypatch.setattr("stochloc.tasks.push.get_token", lambda: None)
    assert "Nobody is logged in" in refuse("push", run, NAME)


def test_a_hub_that_is_slow_or_refuses_is_given_up_in_one_sentence(
    run, full, call, refuse, monkeypatch, tmp_path
):
    out = tmp_path / "copy"
    shutil.rmtree(tmp_path / "hub", ignore_errors=True)
    full.silence.clear()
    begun_s = time.monotonic()
    said = refuse("pull", NAME, "--out", out, "--timeout", 0.3)
    assert "was not downloaded (no answer within 0.3 s): the same command goes on" in said
    said = refuse("push", run, NAME, "--timeout", 0.3)
    assert "was not uploaded (no answer within 0.3 s)" in said
    assert time.monotonic() - begun_s < 8
    full.silence.set()
    (handler,) = logging.getLogger("huggingface_hub").handlers
    until_s = time.monotonic() + 60
    while handler.filters and time.monotonic() < until_s:
        time.sleep(0.02)  # What was given up still goes on, in silence.
    # The client's own words about its repetitions are not ours.
    full.refusal = 503
    monkeypatch.setattr("stochloc.tasks.pull.ANSWER_S", 1.0)
    monkeypatch.setattr("stochloc.tasks.push.ANSWER_S", 1.0)
    told = io.StringIO()
    monkeypatch.setattr(handler, "stream", told)
    assert "was not downloaded" in refuse("pull", NAME, "--out", out)
    assert "was not uploaded" in refuse("push", run, NAME)
    assert told.getvalue() == ""
    logging.getLogger("huggingface_hub.file_download").warning("Retrying")
    assert told.getvalue() == "Retrying\n"
    full.refusal = None
    assert not out.exists()
    call("pull", NAME, "--out", out)
    assert open_run(out).folder == out


def test_what_cannot_be_pulled_is_refused_and_leaves_nothing(run, full, refuse, tmp_path):
    out = tmp_path / "copy"
    assert "no model owner/other" in refuse("pull", "owner/other", "--out", out)
    assert "has no revision 'v2'" in refuse("pull", NAME, "--out", out, "--revision", "v2")
    assert "already exists" in refuse("pull", NAME, "--out", run)
    assert "named owner/name" in refuse("pull", "name", "--out", out)
    assert "--timeout must be above 0" in refuse("pull", NAME, "--out", out, "--timeout", -1)
    recipe = full.files.pop("recipe.json")
    assert "is not a run of stochloc: recipe.json is missing" in refuse("pull", NAME, "--out", out)
    full.files |= {"recipe.json": recipe, "model.safetensors": b"damaged"}
    assert "damaged" in refuse("pull", NAME, "--out", out)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "hub"}


@pytest.mark.slow
def test_a_program_ends_with_its_time_limit_even_while_the_hub_sends_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun_s = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "stochloc", "pull", NAME, "--out", str(tmp_path / "run")],
            env={"HF_ENDPOINT": url, "PATH": "", "HF_HOME": str(tmp_path / "hub")},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == 2 and time.monotonic() - begun_s < 40
        assert ended.stderr.splitlines()[1:] == [
            f"stochloc: {NAME} was not downloaded (no answer within 10 s): the same command goes "
            "on where it stopped; --timeout gives it more time."
        ]
