"""Policies, tuned paths, labels and guidance through the command line."""

import json
import math
import shutil

import pytest
import torch
from tasks.conftest import TEXT, TRAIN, streams

from stochloc.cli import main
from stochloc.core import (
    Ancestral,
    Follow,
    Guided,
    Interleaved,
    Masked,
    Padded,
    Policy,
    Sweep,
    Tempered,
    Unconditional,
    bound,
    left_to_right,
    line_integral,
    sample,
    start,
)
from stochloc.data import held_out_windows, load_corpus
from stochloc.data.labels import LabelledTexts, label_token
from stochloc.tasks.policies import POLICIES, PolicyChoice
from stochloc.tasks.runs import open_run
from stochloc.tasks.tuned import tuned_path
from stochloc.training.seeds import seeded_streams

pytestmark = pytest.mark.bulk


@pytest.mark.parametrize("name", POLICIES)
def test_sample_and_eval_walk_with_the_named_policy_of_the_core(
    trained, call_json, call_traced, name
):
    run = open_run(trained / "run")
    # A walk of a two-sided model that names no path sweeps.
    policy, denoiser = PolicyChoice(name).apply(Sweep(), run.model)
    assert isinstance(policy, Policy)
    # As the task has it: a hardly trained model is about equally confident of all tokens.
    drawing, tempered = PolicyChoice(name).apply(Sweep(), Tempered(run.model, 1.0))
    drawn = call_traced("sample", trained / "run", "--policy", name, "--steps", 5, "--n", 2,
                        "--temperature", 1.0)  # fmt: skip
    state = start(run.model.codebook, 2, 16)
    expected = sample(tempered, state, drawing, Ancestral(), 5, streams(0, 2))
    assert drawn["samples"] == [run.tokenizer.decode(row) for row in expected.tokens]
    assert drawn["denoiser_calls"] == expected.denoiser_calls
    received = torch.tensor(drawn["snr_received"])
    torch.testing.assert_close(received, expected.snr_received, atol=1e-4, rtol=0)

    result = call_json("eval", trained / "run", "--data", trained / "text.txt", "--split", "all",
                       "--policy", name, "--steps", 5, "--sequences", 4)  # fmt: skip
    windows = held_out_windows(run.tokenizer.encode(TEXT * 40), 16, 4)
    estimate = bound(denoiser, windows, policy, Ancestral(), 5, streams(0, 4))
    assert result["nats_per_sequence"] == pytest.approx(estimate.mean, rel=1e-6)
    assert result["policy"] == name
    assert result["path"] == ("sweep" if name == "path" else None)


def test_without_a_path_two_sided_models_sweep_and_others_decide_spread_groups_or_at_random(
    trained, encoder, call_json
):
    # Windows of 16 tokens.
    for arguments, of_two_sided, of_other in (
        (("--steps", 15), "sweep", "spread"),
        (("--steps", 16), "sweep", "masked"),
        (("--steps", 4, "--continuous"), "masked", "masked"),
        (("--steps", 4, "--path", "masked"), "masked", "masked"),
    ):
        for run, path in ((trained / "run", of_two_sided), (encoder, of_other)):
            assert call_json("eval", run, "--sequences", 2, *arguments)["path"] == path

    def texts(run, length, *path):
        arguments = ("--length", length, "--steps", 5, "--n", 8, *path)
        return call_json("sample", run, *arguments)["samples"]

    paths = ("masked", "spread", "sweep")
    for run, length, default in (
        (encoder, 5, "masked"),
        (encoder, 6, "spread"),
        (trained / "run", 5, "sweep"),
        (trained / "run", 6, "sweep"),
    ):
        named = {path: texts(run, length, "--path", path) for path in paths}
        assert texts(run, length) == named[default]
        assert named["masked"] != named["spread"] != named["sweep"] != named["masked"]


def test_a_policy_that_follows_no_path_reports_none(trained, call):
    run = trained / "run"
    told = call("eval", run, "--sequences", 2, "--policy", "entropy", "--steps", 4).out
    assert "path;" not in told
    assert "the policy entropy" in told


def test_the_bound_of_corrector_rounds_is_refused_and_an_empty_bound_is_reported(
    trained, call, call_json, refuse
):
    run = trained / "run"
    assert "Leave out --corrector-rounds" in refuse("eval", run, "--corrector-rounds", 1)
    arguments = ("eval", run, "--sequences", 2, "--steps", 64, "--policy", "remdm-conf")
    captured = call(*arguments, "--json")
    result = json.loads(captured.out)
    assert result["is_empty"]
    assert result["bits_per_token"] > math.log2(27)
    assert "says nothing about the model" in captured.err
    assert "counts the cost of rewound tokens" in result["estimator"]
    captured = call("eval", run, "--sequences", 2, "--json")
    assert not json.loads(captured.out)["is_empty"]
    assert captured.err == ""


@pytest.mark.bulk
def test_a_setting_and_corrector_rounds_change_the_walk(trained, call_json):
    def calls(*arguments):
        return call_json("sample", trained / "run", "--n", 1, *arguments)["denoiser_calls"]

    steps = [calls("--policy", f"tolerance:{t}", "--steps", 400) for t in (0.2, 0.02)]
    assert steps[0] < steps[1] / 2
    # 16 tokens, four a step: after the steps a tenth of 4, 8, 12 and 16 is taken back, 1 or 2.
    assert calls("--steps", 4, "--corrector-rounds", 2) == 4 + 2 * (1 + 1 + 2 + 2)
    for kind in ("together", "least-confident"):
        assert calls("--steps", 4, "--corrector-rounds", 2, "--corrector", kind) == 12
    assert calls("--policy", "curvature:0.3", "--steps", 4) == 2 * 4 + 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--policy", "nonsense"), "There is no policy 'nonsense'"),
        (("--policy", "path:3"), "does not take the setting '3'"),
        (("--policy", "threshold:much"), "does not take the setting 'much'"),
        (("--policy", "tolerance:7"), "must lie in (0, 1)"),
        (("--policy", "remdm-cap", "--corrector-rounds", "1"), "use it alone"),
        (("--corrector-rounds", "-1"), "--corrector-rounds"),
        (("--path", "tuned"), "stochloc tune"),
        (("--guidance", "2"), "Guidance needs a condition"),
        (("--guidance", "-1", "--prompt", "the"), "at least 0"),
        (("--label", "verse"), "trained without classes"),
    ],
)
def test_bad_choices_end_in_one_sentence(trained, refuse, arguments, reason):
    assert reason in refuse("sample", trained / "run", "--n", 1, *arguments)


def test_tune_keeps_costs_whose_best_path_sample_and_eval_follow(
    trained, tmp_path, call, call_json, monkeypatch
):
    monkeypatch.setattr("stochloc.tasks.tune.KNOWN_SHARES", 4)
    monkeypatch.setattr("stochloc.tasks.tune.SNR_LEVELS", (0, 1, 4))
    folder = tmp_path / "run"
    shutil.copytree(trained / "run", folder)
    result = call_json("tune", folder, "--sequences", 4)
    assert [path["steps"] for path in result["paths"]] == [2, 4, 8, 16, 32, 64]
    bits = [path["bits_per_token"] for path in result["paths"]]
    assert bits == sorted(bits, reverse=True)
    run = open_run(folder)
    path = tuned_path(run, "ancestral", 4)
    assert isinstance(path, Interleaved)
    assert list(path.known) == result["paths"][1]["known"]
    evaluated = call_json("eval", folder, "--path", "tuned", "--steps", 4, "--split", "all",
                          "--data", trained / "text.txt", "--sequences", 4)  # fmt: skip
    windows = held_out_windows(run.tokenizer.encode(TEXT * 40), 16, 4)
    expected = bound(run.model, windows, Follow(path), Ancestral(), 4, streams(0, 4))
    assert evaluated["nats_per_sequence"] == pytest.approx(expected.mean, rel=1e-6)
    assert call_json("sample", folder, "--path", "tuned", "--steps", 4)["denoiser_calls"] <= 4
    shown = call("tune", folder, "--sequences", 2)
    assert "bits per token" in shown.out
    assert [f"{n} of 12 steps measured" for n in range(1, 13)] == shown.err.splitlines()


def test_a_damaged_file_of_costs_is_refused(trained, tmp_path, refuse):
    folder = tmp_path / "run"
    shutil.copytree(trained / "run", folder)
    (folder / "spread_costs_ancestral.safetensors").write_bytes(b"no tensors")
    assert "is damaged" in refuse("sample", folder, "--path", "tuned")


def train_on_classes(folder, steps):
    """Train on two classes that share no letter, and return the run's folder."""
    (folder / "a.txt").write_text("ab" * 600)
    (folder / "x.txt").write_text("xy" * 600)
    data = f"letters={folder / 'a.txt'},others={folder / 'x.txt'}"
    settings = [*TRAIN[2:], "--fractions", "0.8", "0.1", "0.1", "--steps", steps, "--width", "32",
                "--learning-rate", "0.005",
                "--warmup-steps", "5", "--ema-decay", "0.9", "--length", "64", "--batch-size", "8",
                "--eval-every", steps, "--checkpoint-every", steps]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(folder / "cache"))
        main(["train", "--data", data, "--out", str(folder / "run"), *settings])
    return folder / "run"


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """A run on two classes, trained long enough for its weights to be no longer the first ones."""
    return train_on_classes(tmp_path_factory.mktemp("classes"), "20")


@pytest.mark.slow
@pytest.mark.bulk
def test_a_label_alone_makes_the_letters_of_its_class_more_likely_everywhere(tmp_path):
    # Half of the text is of either class, so a model deaf to labels gives both sums one half.
    run = open_run(train_on_classes(tmp_path, "900"))
    shares = []
    for label in ("letters", "others"):
        with torch.no_grad():
            posterior = run.denoiser(label)(start(run.model.codebook, 1, 63))
        shares.append(float(posterior.probs[0, :, :2].sum(-1).mean()))
        assert float(posterior.probs[..., 4:].max()) == 0
    assert shares[0] > shares[1] + 0.15, shares


def test_guidance_and_labels_are_those_of_the_core(classes, call_json):
    run = open_run(classes)
    label = label_token(run.tokenizer, "letters")
    known = torch.full((2, 71), -1)
    known[:, :3] = torch.tensor([label, *run.tokenizer.encode("ab")])
    guided = Guided(run.model, Unconditional(run.model, known >= 0), 1.7)
    # The label and the class that is left open stand in front of the text, in no place of the walk.
    text = Padded(Told(guided, known), 1, 0)
    state = start(run.model.codebook, 2, 70, known[:, 1:])
    expected = sample(text, state, Follow(Sweep()), Ancestral(), 6, streams(4, 2))
    drawn = call_json("sample", classes, "--label", "letters", "--prompt", "ab", "--n", 2, "--seed",
                      4, "--length", 70, "--guidance", 1.7, "--steps", 6)  # fmt: skip
    assert drawn["samples"] == [run.tokenizer.decode(row) for row in expected.tokens]
    assert {len(text) for text in drawn["samples"]} == {70}
    assert call_json("sample", classes, "--label", "letters", "--n", 1, "--guidance", 2)["samples"]


class Told:
    """A denoiser that knows some tokens, whatever the state says of them."""

    def __init__(self, denoiser, known):
        self.denoiser, self.known, self.codebook = denoiser, known, denoiser.codebook

    def __call__(self, state):
        return self.denoiser(state.reveal(self.known, self.known >= 0))


def test_a_text_without_a_label_is_one_whose_label_is_there_but_unknown(classes, call_json):
    run = open_run(classes)
    line = "abab"
    open_class = Padded(run.model, 1 + 29, 30)
    exact = left_to_right(open_class, torch.tensor([run.tokenizer.encode(line).tolist()]))
    (classes / "line.txt").write_text(line)
    scored = call_json("score", classes, classes / "line.txt")
    assert scored["nats"] == pytest.approx(exact.mean, rel=1e-6)
    assert scored["counted"] == "tokens of text, whose class is left open"
    (classes / "plain.txt").write_text("ab" * 100)
    result = call_json("eval", classes, "--data", classes / "plain.txt", "--path", "autoregressive",
                       "--sequences", 2)  # fmt: skip
    windows = torch.tensor(run.tokenizer.encode("ab" * 100)[:126]).view(2, 63)
    given = left_to_right(Padded(run.model, 1, 0), windows)
    assert result["nats_per_sequence"] == pytest.approx(given.mean, rel=1e-6)
    assert result["counted"] == "tokens of text, whose class is left open"
    assert (result["length"], result["tokens"]) == (63, 126)


def test_eval_gives_the_labels_and_does_not_score_them(classes, call_json):
    run = open_run(classes)
    result = call_json("eval", classes, "--split", "valid", "--steps", 64, "--sequences", 1,
                       "--path", "masked")  # fmt: skip
    corpus = load_corpus(run.data.data, run.tokenizer, fractions=run.data.fractions)
    texts = LabelledTexts.of(corpus.valid, run.tokenizer)
    window = texts.held_out(64, 1)
    labels = window.masked_fill(window < 4, -1)
    assert (labels[:, 0] == label_token(run.tokenizer, "letters")).all()
    assert (labels[:, 1:] == -1).all()
    assert result["denoiser_calls"] == 63
    given = bound(run.model, window, Follow(Masked()), Ancestral(), 64, streams(0, 1), labels)
    assert result["nats_per_sequence"] == pytest.approx(given.mean, rel=1e-6)
    # Every token but the labels is a character.
    assert result["bits_per_token"] == result["bits_per_character"]
    assert result["bits_per_token"] == pytest.approx(given.mean / math.log(2) / 63, rel=1e-6)
    assert result["tokens"] == 63
    assert "labels are given" in result["counted"]
    lines = [json.loads(line) for line in (classes / "metrics.jsonl").read_text().splitlines()]
    told = next(line for line in reversed(lines) if "valid_bits_per_token" in line)
    assert told["counted"] == result["counted"]
    windows = texts.held_out(64, run.recipe.training.eval_sequences)
    known = windows.masked_fill(windows < 4, -1)
    seeds = ((0, 0, 2, row) for row in range(len(windows)))
    drawn = seeded_streams(torch.device("cpu"), run.recipe.training.seed, seeds)
    measured = line_integral(run.model, windows, Masked(), 8, drawn, known)
    bits = float(measured.values.sum()) / math.log(2) / int((known < 0).sum())
    assert told["valid_bits_per_token"] == pytest.approx(bits, rel=1e-5)
    assert json.loads((classes / "tokenizer.json").read_text())["labels"] == ["letters", "others"]
    assert run.tokenizer.vocabulary_size == 6
    assert run.recipe.model.given_tokens == 2


def test_a_run_with_a_label_every_64_tokens_is_refused_by_every_command(classes, tmp_path, refuse):
    old = tmp_path / "old"
    shutil.copytree(classes, old)
    values = json.loads((old / "recipe.json").read_text())
    del values["model"]["given_tokens"]
    (old / "recipe.json").write_text(json.dumps(values))
    for command in (("sample", old), ("eval", old), ("train", "--out", old, "--resume")):
        assert "with a label every 64 tokens; train it again" in refuse(*command)


def test_a_class_too_short_for_a_window_is_refused_by_name(tmp_path, refuse):
    (tmp_path / "a.txt").write_text("ab" * 600)
    (tmp_path / "x.txt").write_text("xy" * 20)
    data = f"letters={tmp_path / 'a.txt'},others={tmp_path / 'x.txt'}"
    said = refuse("train", "--data", data, "--out", tmp_path / "run", *TRAIN, "--length", 64)
    assert "class others has 36 tokens, but windows need 63 and a label" in said


def test_an_unknown_class_is_refused(classes, refuse):
    assert "no class 'prose'" in refuse("sample", classes, "--label", "prose")
