"""Choosing the network of a run: what is trained, what is told, what resumes and what opens."""

import json
import shutil
from dataclasses import replace

import pytest
from tasks.conftest import TRAIN

from stochloc.core import between
from stochloc.nn import ENCODER, LocalizationModel
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import default_steps

NOISY, LEFT_OUT = "bits per noisy token", "bits per token given all others"


def test_a_dry_run_shows_the_network_and_what_it_is_shown(trained, tmp_path, call):
    def resolved(*flags):
        data = ("--data", trained / "text.txt", "--out", tmp_path / "none", "--dry-run")
        return json.loads(call("train", *data, *flags).out)

    default, encoder = resolved(), resolved("--architecture", "encoder")
    assert resolved("--architecture", "two-sided") == default
    assert default["model"]["architecture"] == "two-sided"
    assert encoder["model"] == {**default["model"], "architecture": "encoder"}
    assert encoder["training"]["law"] == default["training"]["law"]["inside"]


def test_the_network_that_was_named_is_trained_and_the_loss_is_told_per_its_targets(
    trained, encoder, tmp_path, call
):
    assert between(open_run(trained / "run").model) is not None
    assert between(open_run(encoder).model) is None
    for name, told, other in (("encoder", NOISY, LEFT_OUT), ("two-sided", LEFT_OUT, NOISY)):
        arguments = ("train", "--data", trained / "text.txt", "--out", tmp_path / name, *TRAIN)
        said = call(*arguments, "--architecture", name).err
        assert told in said
        assert other not in said


def test_a_resumed_run_keeps_its_network(trained, encoder, refuse):
    for run, other in ((trained / "run", "encoder"), (encoder, "two-sided")):
        said = refuse("train", "--out", run, "--resume", "--architecture", other)
        assert "architecture would differ" in said


@pytest.mark.parametrize("name", ["dense", ""])
def test_there_are_no_other_networks(trained, tmp_path, call, name):
    data = ("--data", trained / "text.txt", "--out", tmp_path / "none", "--dry-run")
    with pytest.raises(SystemExit, match="2"):
        call("train", *data, "--architecture", name)


def test_a_run_of_a_version_without_a_choice_opens_as_the_encoder_it_is(encoder, tmp_path, call):
    run = shutil.copytree(encoder, tmp_path / "run")
    for name in ("recipe.json", "config.json"):
        facts = json.loads((run / name).read_text())
        del (facts["model"] if name == "recipe.json" else facts)["architecture"]
        (run / name).write_text(json.dumps(facts))
    opened, now = open_run(run), open_run(encoder)
    assert opened.recipe == now.recipe
    assert opened.model.config == now.model.config
    call("train", "--out", run, "--resume", "--steps", 5)
    assert between(open_run(run).model) is None


def test_steps_left_open_are_one_a_token_where_the_model_reads_from_left_to_right(trained):
    run = open_run(trained / "run")
    assert run.model.between is not None
    assert default_steps("autoregressive", run, 100) == 100
    assert default_steps("masked", run, 100) == default_steps(None, run, 100) == 64
    encoder = LocalizationModel(replace(run.model.config, architecture=ENCODER))
    assert default_steps("autoregressive", replace(run, model=encoder), 100) == 64
