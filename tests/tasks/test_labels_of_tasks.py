"""Tasks that are told a class, of sequences and of windows: they ask for P(x|y), and P(n|y)."""

import itertools
import json
import math
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from tasks.conftest import TRAIN

from stochloc.cli import main
from stochloc.core import Framed
from stochloc.data.labels import label_token
from stochloc.tasks.correct.correct import correct
from stochloc.tasks.correct.edits import LikelyEdits
from stochloc.tasks.evaluate import Evaluation, evaluate_sequences
from stochloc.tasks.generate_sequences import generate_sequences
from stochloc.tasks.own_text import own_sequences
from stochloc.tasks.runs import open_run
from stochloc.tasks.score import default_scoring, score
from stochloc.tasks.scored import Scoring
from stochloc.tasks.walks import WalkSettings

pytestmark = pytest.mark.bulk

LONGEST = 3
EVERY = ["".join(s) for n in range(1, LONGEST + 1) for s in itertools.product("ab", repeat=n)]
# Of one class are short texts that begin with a, of the other longer ones that begin with b.
A, B = ["a", "ab", "aa", "ab"] * 40, ["ba", "bab", "bba", "bab"] * 40
LEARN = (
    "--steps", "50", "--learning-rate", "0.02", "--warmup-steps", "3", "--ema-decay", "0.5",
    "--eval-every", "50", "--checkpoint-every", "50", "--batch-size", "16",
)  # fmt: skip
LEFT = WalkSettings("autoregressive", num_steps=LONGEST)


@pytest.fixture(scope="module")
def classes(tmp_path_factory, cache):
    """A folder with the lines of two classes, and a run on them as sequences."""
    folder = tmp_path_factory.mktemp("classes")
    for name, lines in (("a", A), ("b", B)):
        (folder / name).write_text("\n".join(lines) + "\n")
    data = f"A={folder / 'a'},B={folder / 'b'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        main(["train", "--sequences", "--data", data, "--valid", data, "--test", data, "--out",
              str(folder / "run"), *TRAIN, *LEARN, "--length", str(LONGEST + 3)])  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def windows(tmp_path_factory, cache):
    """A folder with the texts of two classes, and a run on windows of them."""
    folder = tmp_path_factory.mktemp("windows")
    for name, text in (("a", "aab" * 200), ("b", "ab" * 400)):
        (folder / name).write_text(text)
    data = f"A={folder / 'a'},B={folder / 'b'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        main(["train", "--data", data, "--out", str(folder / "run"), *TRAIN, *LEARN])
    return folder


def agrees(counts, probs):
    """Chi-square; a false alarm has a probability of 1e-6."""
    expected = np.array(probs) * sum(counts)
    statistic = ((np.array(counts) - expected) ** 2 / expected).sum()
    assert chi2.sf(statistic, len(probs) - 1) > 1e-6, f"chi-squared {statistic:.0f}"


def probs_of(run, label):
    scored = score(run, EVERY, Scoring(LEFT, num_draws=1, label=label))
    return {line.text: math.exp(-line.nats_with_length) for line in scored.lines}


def test_given_a_class_or_none_scores_of_all_sequences_are_one_distribution(classes):
    run = open_run(classes / "run")
    given = {label: probs_of(run, label) for label in ("A", "B", None)}
    for probs in given.values():
        assert math.fsum(probs.values()) == pytest.approx(1, abs=1e-5)
    # It has learned what begins with which letter, and how long texts of each class are.
    begins = {label: math.fsum(p for text, p in probs.items() if text[0] == "a")
              for label, probs in given.items()}  # fmt: skip
    assert begins["A"] > 0.8 and begins["B"] < 0.2 < begins[None] < 0.8
    assert run.lengths.given("A").probabilities[0] > 0.2 > run.lengths.given("B").probabilities[0]


@pytest.mark.bulk
def test_sampled_sequences_of_a_class_have_the_probabilities_that_score_gives_them(classes):
    # 3,000 sequences of 14 kinds; those of the other class would be off by thousands.
    run = open_run(classes / "run")
    probs, walk = probs_of(run, "B"), LEFT.resolve(run)
    drawn = generate_sequences(
        run, 3_000, run.lengths_given("B"), lambda _: walk, seed=1, label="B"
    )
    counts = Counter(text for batch in drawn for text in batch.samples)
    agrees([counts[text] for text in EVERY], [probs[text] for text in EVERY])


def test_a_labelled_sequence_costs_the_same_alone_among_others_and_where_its_class_is_told(classes):
    run = open_run(classes / "run")
    run.model.double()  # in float32 sums depend on the size of the batch
    every = own_sequences(run).test.spaced(23)
    evaluation = Evaluation(LEFT, num_sequences=0)
    together = evaluate_sequences(run, every, evaluation)
    plain = run.tokenizer
    for number in (0, 5, 22):
        alone = evaluate_sequences(run, every.taken(np.array([number])), evaluation)
        torch.testing.assert_close(alone.estimate.values[0], together.estimate.values[number])
        torch.testing.assert_close(alone.length_nats[0], together.length_nats[number])
        label = plain.labels[int(every.labels[number]) - label_token(plain, "A")]
        text = plain.decode(every.rows(np.array([number]))[0])
        (line,) = score(run, text, Scoring(LEFT, num_draws=1, label=label)).lines
        assert line.nats == pytest.approx(float(alone.estimate.values[0]), abs=1e-5)
        assert line.length_nats == pytest.approx(float(alone.length_nats[0]))


def test_eval_of_a_class_takes_its_sequences_and_tells_it_to_others(classes, tmp_path, call_json):
    few = ("--path", "autoregressive", "--sequences", 0)
    both, own = (call_json("eval", classes / "run", *few, *more) for more in ((), ("--label", "B")))
    assert (both["sequences"], own["sequences"]) == (len(A) + len(B), len(B))
    (tmp_path / "lines").write_text("\n".join(B))
    told, unknown = (call_json("eval", classes / "run", "--data", tmp_path / "lines", *few, *more)
                     for more in (("--label", "B"), ()))  # fmt: skip
    for figure in ("nats_per_sequence", "nats_per_sequence_with_length", "bits_per_token"):
        assert told[figure] == pytest.approx(own[figure], rel=1e-5)
        assert unknown[figure] > told[figure] + 0.05
    assert "left open" in unknown["counted"] and unknown["label"] is None
    assert "labels and where a sequence ends" in own["counted"] and own["label"] == "B"


def test_answers_and_corrections_are_those_of_the_class_that_is_told(classes, call_json):
    run = open_run(classes / "run")
    for label in ("A", "B"):
        result = call_json("infill", classes / "run", "_{1-2}", "--draws", 40, "--label", label)
        probs = probs_of(run, label)
        answers = {answer["text"]: answer["nats"] for answer in result["answers"]}
        best = sorted((t for t in probs if len(t) > 1), key=lambda text: -probs[text])
        assert next(iter(answers)) == best[0] and best[0][0] == label.lower()
        for text, nats in answers.items():
            assert nats == pytest.approx(-math.log(probs[text]), abs=1e-4)
    hazy = ("--one-pass", "--snr", 0.1, "--threshold", 0, "--label")
    read = {label: call_json("correct", classes / "run", "bab\nbab", *hazy, label)["text"]
            for label in ("A", "B")}  # fmt: skip
    assert {text.splitlines()[0][0] for text in read.values()} == {"a", "b"}
    assert read["A"].splitlines() == [read["A"][:3]] * 2


def test_edits_weigh_lengths_by_the_class(classes, monkeypatch):
    run, seen = open_run(classes / "run"), []
    decide = LikelyEdits.decide
    monkeypatch.setattr(LikelyEdits, "decide", lambda own, denoiser, reading: (
        seen.append((own.lengths, denoiser)) or decide(own, denoiser, reading)))  # fmt: skip
    correct(run, "ab", label="B")
    boundary, label = run.tokenizer.boundary, label_token(run.tokenizer, "B")
    assert seen == [(run.lengths.given("B"), Framed(run.model, (label, boundary), (boundary,)))]


def test_guidance_works_on_sequences_of_a_class(classes, call_json):
    asked = ("sample", classes / "run", "--n", 40, "--label", "A", "--path", "autoregressive",
             "--temperature", 2)  # fmt: skip
    plain, strong = call_json(*asked), call_json(*asked, "--guidance", 4)
    assert plain["lengths"] == strong["lengths"]
    begins = [sum(text[0] == "a" for text in drawn["samples"]) for drawn in (plain, strong)]
    assert begins[0] < begins[1]


def test_a_run_of_labelled_sequences_holds_their_classes_and_is_resumed(classes, tmp_path, call):
    run = open_run(classes / "run")
    assert run.tokenizer.labels == ("A", "B") and run.model.config.given_tokens == 3
    assert run.text_length == LONGEST == run.lengths.longest
    copy = tmp_path / "run"
    copy.mkdir()
    for path in (classes / "run").iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    call("train", "--out", copy, "--resume", "--steps", 52)
    facts = json.loads((copy / "lengths.json").read_text())
    assert set(facts["of_classes"]) == {"A", "B"}
    assert open_run(copy).progress.step == 52


def test_tasks_on_windows_are_told_a_class_too(windows, tmp_path, call_json):
    run = open_run(windows / "run")
    pairs = ["".join(pair) for pair in itertools.product("ab", repeat=2)]
    for label in ("A", "B", None):
        scored = score(run, pairs, Scoring(LEFT, num_draws=1, label=label))
        assert math.fsum(math.exp(-line.nats) for line in scored.lines) == pytest.approx(
            1, abs=1e-5
        )
    few = ("--path", "autoregressive", "--sequences", 0, "--split", "train")
    both = call_json("eval", windows / "run", *few)
    own = {
        label: call_json("eval", windows / "run", *few, "--label", label) for label in ("A", "B")
    }
    assert own["A"]["sequences"] + own["B"]["sequences"] == both["sequences"]
    (tmp_path / "text").write_text("aab" * 180)
    told, other, unknown = (
        call_json("eval", windows / "run", "--data", tmp_path / "text", "--path", "autoregressive",
                  "--sequences", 0, *more)["bits_per_token"]
        for more in (("--label", "A"), ("--label", "B"), ())
    )  # fmt: skip
    assert told == pytest.approx(own["A"]["bits_per_token"], rel=0.05)
    assert told < unknown < other
    for label in ("A", "B"):
        answers = call_json("infill", windows / "run", "aba_", "--label", label)["answers"]
        costs = {answer["text"]: answer["nats"] for answer in answers}
        scored = score(run, sorted(costs), replace(default_scoring(run), label=label))
        assert [line.nats for line in scored.lines] == pytest.approx(
            [costs[text] for text in sorted(costs)], abs=1e-4
        )


@pytest.mark.parametrize("command", [
    ("eval",), ("sample",), ("score", "FILE"), ("infill", "a_"), ("correct", "ab"),
    ("correct", "ab", "--one-pass", "--snr", 1, "--threshold", 0.5),
], ids=str)  # fmt: skip
def test_a_class_that_is_not_there_is_refused_with_those_that_are(
    command, classes, trained, refuse
):
    words = [classes / "a" if word == "FILE" else word for word in command[1:]]
    said = refuse(command[0], classes / "run", *words, "--label", "C")
    assert said.endswith("There is no class 'C'; the classes are A, B.")
    said = refuse(command[0], trained / "run", *words, "--label", "C")
    assert "The model was trained without classes" in said


def test_a_model_of_classes_goes_on_with_texts_of_all_its_classes_alone(
    classes, windows, tmp_path, refuse
):
    plain = ("--out", tmp_path / "new", "--steps", 2)
    said = refuse("train", "--from", windows / "run", "--data", windows / "a", *plain)
    assert "have 0 labels, but the model knows the classes A, B" in said
    said = refuse("train", "--from", classes / "run", "--data", classes / "a", *plain)
    assert "No training sequence is of the class A" in said


def test_a_tuned_path_of_sequences_costs_what_tune_says_on_what_it_was_tuned_on(
    classes, tmp_path, call_json, monkeypatch
):
    """The costs are those of these sequences with other noise: equal but for its error."""
    copy = tmp_path / "run"
    shutil.copytree(classes / "run", copy)
    monkeypatch.setattr("stochloc.tasks.tune.KNOWN_SHARES", 4)
    monkeypatch.setattr("stochloc.tasks.tune.SNR_LEVELS", (0, 2, 6))
    tuned = call_json("tune", copy, "--sequences", 200)
    assert tuned["sequences"] == 200
    assert tuned["denoiser_calls"] == 12 * LONGEST
    told = {path["steps"]: path["bits_per_token"] for path in tuned["paths"]}
    found = call_json("eval", copy, "--path", "tuned", "--steps", 4, "--split", "valid",
                      "--sequences", 200)  # fmt: skip
    assert found["bits_per_token"] == pytest.approx(told[4], abs=5 * found["stderr"])
