"""Sampling, scoring, filling and correcting with models of sequences."""

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from tasks.conftest import TRAIN

from stochloc.cli import main
from stochloc.data.lengths import Lengths
from stochloc.tasks.generate_sequences import draw_length, generate_sequences, parse_lengths
from stochloc.tasks.runs import open_run
from stochloc.tasks.score import score
from stochloc.tasks.walks import WalkSettings

pytestmark = pytest.mark.bulk

LONGEST = 3
LINES = ["a", "ab", "abb", "ba", "aba", "abb", "b", "ab", "bab", "a", "abb", "aab"] * 30
# Every sequence that a model with this alphabet and this window can give.
EVERY = ["".join(s) for n in range(1, LONGEST + 1) for s in itertools.product("ab", repeat=n)]


def train(folder, *extra):
    (folder / "lines.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    settings = ["--steps", "60", "--length", str(LONGEST + 2), "--learning-rate", "0.02",
                "--warmup-steps", "3", "--ema-decay", "0.5", "--eval-every", "60",
                "--checkpoint-every", "60", "--batch-size", "16"]  # fmt: skip
    data = (str(folder / "lines.txt") for _ in range(3))
    texts = [
        word for pair in zip(("--data", "--valid", "--test"), data, strict=True) for word in pair
    ]
    main(["train", "--sequences", *texts, "--out", str(folder / "run"), *TRAIN, *settings, *extra])
    return folder


@pytest.fixture(scope="module")
def sequences(tmp_path_factory, cache):
    """A folder with lines of text, and a run on them as sequences."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        return train(tmp_path_factory.mktemp("sequences"))


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, cache):
    """The same of a network that looks at the token it predicts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        return train(tmp_path_factory.mktemp("encoded"), "--architecture", "encoder")


def agrees(counts, probs):
    """Chi-square; a false alarm has a probability of 1e-6."""
    expected = np.array(probs) * sum(counts)
    statistic = ((np.array(counts) - expected) ** 2 / expected).sum()
    assert chi2.sf(statistic, len(probs) - 1) > 1e-6, f"chi-squared {statistic:.0f}"


def test_scores_of_all_sequences_with_their_lengths_are_one_distribution(sequences):
    run = open_run(sequences / "run")
    scored = score(run, EVERY)
    assert scored.is_exact
    total = math.fsum(math.exp(-line.nats_with_length) for line in scored.lines)
    assert total == pytest.approx(1, abs=1e-5)
    for length in range(1, LONGEST + 1):
        same = [line.nats for line in scored.lines if len(line.text) == length]
        assert math.fsum(math.exp(-nats) for nats in same) == pytest.approx(1, abs=1e-5)
    probs = [math.exp(-line.nats_with_length) for line in scored.lines]
    # It has learned: no line of the data begins with two b.
    assert probs[EVERY.index("abb")] > 3 * probs[EVERY.index("bba")]


@pytest.mark.bulk
def test_sampled_sequences_have_the_probabilities_that_score_gives_them(sequences):
    # 4,000 sequences, 14 kinds: notices one of share 0.1 that is drawn a third too often.
    run = open_run(sequences / "run")
    probs = [math.exp(-line.nats_with_length) for line in score(run, EVERY).lines]
    walk = WalkSettings("autoregressive", num_steps=LONGEST).resolve(run)
    drawn = list(generate_sequences(run, 4_000, run.lengths, lambda _: walk, seed=1))
    counts = Counter(text for batch in drawn for text in batch.samples)
    assert set(counts) <= set(EVERY)
    agrees([counts[text] for text in EVERY], probs)


@pytest.mark.bulk
def test_drawn_lengths_follow_their_distribution_and_a_range_conditions_them():
    # 5,000 lengths each: notices a length of share 0.1 that is drawn a quarter too often.
    lengths = Lengths((0.1, 0.35, 0.2, 0.25, 0.1))
    for chosen in (lengths, lengths.within(2, 4)):
        counts = Counter(draw_length(chosen, 3, text) for text in range(5_000))
        possible = [n for n, p in enumerate(chosen.probabilities, 1) if p]
        assert set(counts) == set(possible)
        agrees([counts[n] for n in possible], [chosen.probabilities[n - 1] for n in possible])


def test_a_sequence_is_the_same_however_many_are_drawn_and_whoever_shares_its_batch(
    sequences, call_json, call_traced, monkeypatch
):
    run = sequences / "run"
    many = call_json("sample", run, "--n", 12, "--seed", 5)
    few = call_json("sample", run, "--n", 5, "--seed", 5)
    assert few["samples"] == many["samples"][:5]
    assert few["lengths"] == many["lengths"][:5] == [len(text) for text in few["samples"]]
    received = call_traced("sample", run, "--n", 12, "--seed", 5)["snr_received"]
    assert [len(row) for row in received] == many["lengths"]
    monkeypatch.setattr("stochloc.tasks.batches.MOST_TOKENS", 3)
    monkeypatch.setattr("stochloc.tasks.generate_sequences.TEXTS_AT_ONCE", 2)
    assert call_json("sample", run, "--n", 12, "--seed", 5)["samples"] == many["samples"]
    assert call_json("sample", run, "--n", 12, "--seed", 6)["samples"] != many["samples"]


@pytest.mark.parametrize(
    "asked",
    [(), ("--path", "diffusion"), ("--policy", "threshold:0.8"), ("--transition", "euler"),
     ("--corrector-rounds", 1), ("--path", "autoregressive", "--temperature", 0.5)],
)  # fmt: skip
def test_every_walk_draws_whole_sequences_that_keep_prompt_and_length(sequences, call_json, asked):
    drawn = call_json("sample", sequences / "run", "--n", 9, "--length", "2-3", "--prompt", "ba",
                      *asked)  # fmt: skip
    assert set(drawn["samples"]) <= {"ba", "baa", "bab"}
    one = call_json("sample", sequences / "run", "--n", 3, "--length", 2, *asked)
    assert one["lengths"] == [2, 2, 2]


def test_a_trace_names_the_sequences_of_a_batch_and_shows_no_boundary(sequences, call):
    out = call("sample", sequences / "run", "--n", 6, "--trace").out.splitlines()
    steps, result = [json.loads(line) for line in out[:-1]], json.loads(out[-1])
    assert sorted({number for step in steps for number in step["numbers"]}) == list(range(6))
    for step in steps:
        assert step["first_text"] == step["numbers"][0]
        lengths = {result["lengths"][number] for number in step["numbers"]}
        assert {len(text) for text in step["texts"]} == lengths


@pytest.mark.parametrize("which", ["sequences", "encoded"])
def test_answers_of_unknown_length_are_ranked_with_the_probability_of_their_length(
    which, request, call_json
):
    folder = request.getfixturevalue(which)
    run = open_run(folder / "run")
    result = call_json("infill", folder / "run", "a{1-2}", "--draws", 64)
    answers = {answer["text"]: answer["nats"] for answer in result["answers"]}
    assert set(answers) <= {"aa", "ab", "aaa", "aab", "aba", "abb"}
    assert list(answers.values()) == sorted(answers.values())
    assert result["ranking"].endswith("its length included")
    if which == "sequences":
        scored = score(run, list(answers))
        for line in scored.lines:
            assert answers[line.text] == pytest.approx(line.nats_with_length, abs=1e-4)
        fixed = call_json("infill", folder / "run", "a_")["answers"]
        told = {answer["text"]: answer["nats"] for answer in fixed}
        assert all(nats == pytest.approx(answers[text], abs=1e-4) for text, nats in told.items())


def test_every_line_is_corrected_by_itself_and_places_are_those_of_the_whole_text(
    sequences, call_json
):
    run, lines = sequences / "run", ["bba", "", "abb", "bb"]
    whole = call_json("correct", run, "\r\n".join(lines), "--snr", 0.5, "--threshold", 0)
    alone = [call_json("correct", run, line, "--snr", 0.5, "--threshold", 0) for line in lines
             if line]  # fmt: skip
    texts = [part["text"] for part in alone]
    assert whole["text"] == "\n".join([texts[0], "", *texts[1:]])
    begins = (0, 7, 12)
    moved = [
        {**change, "position": begin + change["position"]}
        for part, begin in zip(alone, begins, strict=True)
        for change in part["changes"]
    ]
    assert whole["changes"] == moved
    assert moved
    assert whole["denoiser_calls"] == sum(part["denoiser_calls"] for part in alone)


def test_a_length_is_a_number_or_a_range():
    assert parse_lengths("7") == (7, 7)
    assert parse_lengths("2-30") == (2, 30)


# Every command with a model of sequences: what it is asked, and how the refusal of a bad wish ends.
GOOD = {
    "eval": ("eval", "RUN", "--sequences", 3),
    "sample": ("sample", "RUN", "--n", 2, "--guidance", 2, "--prompt", "a"),
    "score": ("score", "RUN", "FILE", "--tokens"),
    "infill": ("infill", "RUN", "_b", "--constraint", "a"),
    "infill, encoder": ("infill", "ENCODER", "_b"),
    "correct": ("correct", "RUN", "abb"),
    "correct, one pass": ("correct", "RUN", "abb", "--one-pass"),
    "correct, walk": ("correct", "ENCODER", "abb\nba", "--walk", "--steps", 3),
}
BAD = {
    "eval": (("eval", "RUN", "--data", "STRANGE"), "not in the model's alphabet"),
    "sample, length": (("sample", "RUN", "--length", 9), "knows lengths from 1 to 3"),
    "sample, range": (("sample", "RUN", "--length", "3-2"), "a range such as 5-12, not '3-2'"),
    "sample, no number": (("sample", "RUN", "--length", "x"), "a range such as 5-12, not 'x'"),
    "sample, prompt": (("sample", "RUN", "--prompt", "abba"), "has 4 tokens, more than the 3"),
    "sample, guidance": (("sample", "RUN", "--guidance", 2), "Guidance needs a condition"),
    "sample, no class": (("sample", "RUN", "--label", "x"), "trained without classes"),
    "sample of a text": (("sample", "TEXT", "--length", "2-4"), "is for models of sequences"),
    "score": (("score", "RUN", "LONG"), "Line 1 has 4 tokens, but the model knows sequences of"),
    "infill": (("infill", "RUN", "abb_"), "has 4 tokens, but the model knows sequences of at most"),
    "infill, range": (("infill", "RUN", "a{1-9}"), "may have 10; shorten it"),
    "correct": (("correct", "RUN", "ab\nabba"), "Line 2: The text has 4 tokens"),
    "correct, confidences": (
        ("correct", "RUN", "ab\nab", "--confidences", "1,1"), "give one line at a time",
    ),
    "correct, nothing": (("correct", "RUN", "\n\n"), "There is no text to correct"),
}  # fmt: skip


def named(arguments, sequences, encoded, trained, tmp_path):
    files = {"FILE": "ab\n\nabba\nb\n", "LONG": "abba\n", "STRANGE": "abc\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    places = {name: tmp_path / name for name in files} | {
        "RUN": sequences / "run", "ENCODER": encoded / "run", "TEXT": trained / "run",
    }  # fmt: skip
    return [places.get(argument, argument) for argument in arguments]


@pytest.mark.parametrize("name", GOOD)
def test_every_command_works_with_a_model_of_sequences(
    name, sequences, encoded, trained, tmp_path, call, call_json
):
    arguments = named(GOOD[name], sequences, encoded, trained, tmp_path)
    assert call(*arguments).out
    result = json.dumps(call_json(*arguments))
    assert "NaN" not in result and "Infinity" not in result


@pytest.mark.parametrize("name", BAD)
def test_bad_wishes_to_a_model_of_sequences_end_in_one_sentence(
    name, sequences, encoded, trained, tmp_path, refuse
):
    asked, reason = BAD[name]
    assert reason in refuse(*named(asked, sequences, encoded, trained, tmp_path))


def test_lines_that_no_sequence_can_be_are_told_by_number(sequences, tmp_path, call_json, capsys):
    (tmp_path / "lines").write_text("ab\n\nabba\nb\n")
    result = call_json("score", sequences / "run", tmp_path / "lines")
    assert result["refused"] == 2
    assert [line["refused"] for line in result["lines"]] == [
        None, "Line 2 is empty, which no sequence is.",
        "Line 3 has 4 tokens, but the model knows sequences of at most 3.", None,
    ]  # fmt: skip
    told = [line["nats_with_length"] for line in result["lines"]]
    assert told[1] is None and told[2] is None
    assert result["nats_with_length"] == pytest.approx(told[0] + told[3])
    run = open_run(sequences / "run")
    lengths = run.lengths.log_prob(torch.tensor([2, 1]))
    assert result["nats_with_length"] == pytest.approx(result["nats"] - float(lengths.sum()))
