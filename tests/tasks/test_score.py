"""Scoring lines: sums, windows, the command and what it refuses."""

import math

import pytest
import torch

from stochloc.core import Ancestral, Autoregressive, Follow, bound, left_to_right
from stochloc.tasks.runs import open_run
from stochloc.tasks.score import score
from stochloc.tasks.scored import Scored, ScoredLine, Scoring
from stochloc.tasks.walks import WalkSettings

pytestmark = pytest.mark.bulk

LINES = [
    "the quick brown fox",
    "",
    "jumps",
    "over the lazy dog and runs away over the dog",
    "jumps",
]
CHAIN_RULE = Scoring(WalkSettings("autoregressive"))


@pytest.fixture(scope="module")
def run(trained):
    return open_run(trained / "run")


@pytest.mark.parametrize("scoring", [
    CHAIN_RULE, Scoring(), Scoring(WalkSettings("diffusion", "euler", 5)),
    Scoring(WalkSettings(num_steps=4), continuous=True),
])  # fmt: skip
def test_tokens_add_up_to_lines_and_lines_to_the_text(run, scoring):
    result = score(run, LINES, scoring)
    assert [line.text for line in result.lines] == LINES
    for line in result.lines:
        assert "".join(line.tokens) == line.text
        assert line.nats == pytest.approx(math.fsum(line.token_nats))
    assert result.lines[1].nats == 0
    assert result.nats == pytest.approx(math.fsum(line.nats for line in result.lines))
    characters = sum(map(len, LINES))
    assert result.bits_per_character == pytest.approx(result.nats / math.log(2) / characters)
    assert 2 < result.bits_per_character < 20


def test_left_to_right_a_token_costs_what_the_chain_rule_says(run):
    result = score(run, ["jumps"], CHAIN_RULE)
    tokens = torch.from_numpy(run.tokenizer.encode("jumps"))[None]
    exact = bound(
        run.denoiser_for(5), tokens, Follow(Autoregressive()), Ancestral(), 5, torch.Generator()
    )
    assert result.lines[0].token_nats == pytest.approx(exact.token_nats[0].tolist(), abs=1e-6)


def test_a_line_costs_the_same_alone_and_beside_others(run):
    together = score(run, LINES, CHAIN_RULE).lines
    for line, scored in zip(LINES, together, strict=True):
        assert score(run, [line], CHAIN_RULE).nats == pytest.approx(scored.nats, abs=1e-4)
    assert together[2].nats == pytest.approx(together[4].nats, abs=1e-5)


def test_the_noise_of_a_line_depends_neither_on_other_lines_nor_on_the_batch_size(run, monkeypatch):
    scoring = Scoring(WalkSettings("diffusion", num_steps=4))
    together = [line.nats for line in score(run, LINES, scoring).lines]
    first = [line.nats for line in score(run, LINES[:3], scoring).lines]
    assert together[:3] == pytest.approx(first, rel=1e-5)
    monkeypatch.setattr("stochloc.tasks.batches.MOST_TOKENS", run.length)
    apart = [line.nats for line in score(run, LINES, scoring).lines]
    assert apart == pytest.approx(together, rel=1e-5)


def test_a_line_longer_than_the_window_costs_the_sum_of_its_windows(run):
    line = LINES[3]
    windows = [line[begin : begin + run.length] for begin in range(0, len(line), run.length)]
    assert len(windows) == 3
    apart = score(run, windows, CHAIN_RULE)
    assert score(run, [line], CHAIN_RULE).nats == pytest.approx(apart.nats, abs=1e-4)


def test_the_same_seed_gives_the_same_costs_and_another_seed_others(run):
    def nats(seed):
        return score(run, LINES, Scoring(WalkSettings("diffusion", num_steps=4), seed=seed)).nats

    assert nats(1) == nats(1) != nats(2)


def test_the_error_of_a_ratio_vanishes_when_every_character_costs_the_same():
    lines = tuple(ScoredLine("a" * n, ("a",) * n, (2.0,) * n) for n in (1, 4, 9))
    scored = Scored(lines, CHAIN_RULE, 1, 0.0)
    assert scored.bits_per_character_stderr == pytest.approx(0)
    # Totals of 2, 8 and 18: a sum of three draws of standard deviation 8.083.
    assert scored.stderr == pytest.approx(math.sqrt(3 * 196 / 3))


def test_a_line_with_an_unknown_character_is_named_and_the_others_scored(
    trained, tmp_path, call, call_json, refuse
):
    (tmp_path / "text").write_text("the fox\nthe 5 dogs\nthe dog\n\n\n")
    result = call_json("score", trained / "run", tmp_path / "text")
    alone = score(open_run(trained / "run"), ["the fox"])
    assert [line["nats"] is None for line in result["lines"]] == [False, True, False]
    assert result["lines"][0]["nats"] == pytest.approx(alone.nats)
    assert result["refused"] == 1
    assert result["characters"] == len("the foxthe dog")
    assert result["nats"] == pytest.approx(sum(line["nats"] or 0 for line in result["lines"]))
    reason = "Line 2: The character '5' at position 5, counted from 1, is not in the model's"
    assert result["lines"][1]["refused"].startswith(reason)
    printed = call("score", trained / "run", tmp_path / "text")
    assert f"stochloc: {reason}" in printed.err
    assert "the 5 dogs" in printed.out
    (tmp_path / "text").write_text("5\n6\n")
    assert "Line 1: The character '5'" in refuse("score", trained / "run", tmp_path / "text")


def test_the_command_prints_every_line_and_on_request_every_token(
    trained, tmp_path, call, call_json
):
    (tmp_path / "text").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    arguments = ("score", trained / "run", tmp_path / "text")
    result = call_json(*arguments)
    assert [line["text"] for line in result["lines"]] == LINES
    assert "tokens" not in result["lines"][0]
    needed = {"nats", "stderr", "bits_per_character", "path", "denoiser_calls", "seconds"}
    assert needed <= result.keys()
    told = call_json(*arguments, "--tokens")["lines"][2]
    assert [token["token"] for token in told["tokens"]] == list("jumps")
    assert told["nats"] == pytest.approx(sum(token["nats"] for token in told["tokens"]))
    assert told["nats"] == result["lines"][2]["nats"]
    printed = call(*arguments, "--tokens").out
    assert "'j'" in printed
    assert "bits per character" in printed


def test_a_single_line_has_no_standard_error_over_the_text(trained, tmp_path, call, call_json):
    (tmp_path / "text").write_text("jumps", encoding="utf-8")
    assert call_json("score", trained / "run", tmp_path / "text")["stderr"] is None
    printed = call("score", trained / "run", tmp_path / "text", "--draws", 3).out
    assert "over the text" not in printed
    assert "over the draws" in printed
    one = call_json("score", trained / "run", tmp_path / "text", "--draws", 1)
    assert one["draws_stderr"] is one["lines"][0]["nats_stderr"] is None
    chain_rule = ("score", trained / "run", tmp_path / "text", "--path", "autoregressive")
    assert call_json(*chain_rule)["draws_stderr"] == 0
    assert "over the" not in call(*chain_rule).out


def test_a_two_sided_model_scores_exactly_left_to_right_in_one_call_unless_told_otherwise(
    trained, encoder, tmp_path, call, call_json
):
    line = "the quick fox"
    (tmp_path / "text").write_text(line, encoding="utf-8")
    command = ("score", trained / "run", tmp_path / "text")
    run = open_run(trained / "run")
    result = call_json(*command, "--seed", 1)
    tokens = torch.from_numpy(run.tokenizer.encode(line))[None]
    exact = left_to_right(run.denoiser_for(len(line)), tokens)
    assert result["nats"] == pytest.approx(exact.mean, abs=1e-5)
    assert result["nats"] == call_json(*command, "--seed", 2)["nats"] == score(run, line).nats
    assert (result["is_exact"], result["denoiser_calls"], result["draws_stderr"]) == (True, 1, 0)
    assert (result["path"], result["steps"]) == ("autoregressive", run.length)
    assert result == {**call_json(*command, "--path", "autoregressive", "--seed", 1),
                      "draws": 1, "seconds": result["seconds"]}  # fmt: skip
    printed = call(*command).out
    assert "exact likelihood" in printed
    assert "±" not in printed
    for flags in (("--path", "masked"), ("--draws", 4), ("--steps", 64), ("--continuous",),
                  ("--transition", "ancestral")):  # fmt: skip
        told = call_json(*command, *flags)
        assert (told["is_exact"], told["path"], told["draws"]) == (False, "masked", 4)
        assert told["draws_stderr"] > 0
        assert "±" in call(*command, *flags).out
    other = call_json("score", encoder, tmp_path / "text")
    assert (other["path"], other["steps"], other["draws"]) == ("masked", 64, 4)
    assert not other["is_exact"]
    assert other["nats"] == score(open_run(encoder), line, Scoring()).nats


@pytest.mark.parametrize("scoring", [Scoring(), Scoring(WalkSettings("diffusion", num_steps=3))])
def test_the_same_line_has_the_same_cost_wherever_it_stands(run, scoring):
    lines = ["jumps over", "the fox", "", "jumps over", "jumps over"]
    result = score(run, lines, scoring)
    alone = score(run, "jumps over", scoring)
    for number in (0, 3, 4):
        assert result.lines[number].token_nats == pytest.approx(alone.lines[0].token_nats, rel=1e-4)
    # Equal draws add up, others do not; blank lines are no draws.
    fox = score(run, "the fox", scoring).lines[0].nats_stderr
    jump = alone.lines[0].nats_stderr
    assert fox > 0 and jump > 0
    assert result.draws_stderr == pytest.approx(math.hypot(3 * jump, fox), rel=1e-3)
    assert len(result.scored_lines) == 4
    without = score(run, [line for line in lines if line], scoring)
    assert result.stderr == pytest.approx(without.stderr, rel=1e-3)


@pytest.mark.bulk
def test_the_error_of_a_line_is_the_spread_of_its_cost_over_seeds(run):
    """200 seeds know the true spread to 5 %, the mean square of their errors to 6 %.

    The ratio of the squares errs by 0.16; 0.88 is 5.5 sigmas, so false alarms are below 1e-6. An
    error that forgets the number of draws is twice too large, its square four times, and fails.
    """
    scoring = [Scoring(WalkSettings("diffusion", num_steps=2), seed=seed) for seed in range(200)]
    lines = [score(run, "jumps", choice).lines[0] for choice in scoring]
    nats = torch.tensor([line.nats for line in lines])
    told = torch.tensor([line.nats_stderr for line in lines]).square().mean()
    assert float(told / nats.var()) == pytest.approx(1, abs=0.88)


def test_one_text_is_one_line(run):
    assert [line.text for line in score(run, "the quick", CHAIN_RULE).lines] == ["the quick"]
    assert score(run, "the quick").nats == score(run, ["the quick"]).nats


@pytest.mark.parametrize(("text", "arguments", "reason"), [
    ("#\n#\n", (), "Line 1"), ("", (), "empty"), ("a", ("--steps", "0"), "step"),
    ("a", ("--seed", "-1"), "seed"), ("a", ("--steps", "0", "--continuous"), "step"),
])  # fmt: skip
def test_a_text_that_cannot_be_scored_is_refused(
    trained, tmp_path, refuse, text, arguments, reason
):
    (tmp_path / "text").write_text(text, encoding="utf-8")
    assert reason in refuse("score", trained / "run", tmp_path / "text", *arguments)


def test_an_empty_line_is_told_as_one_that_is_not_scored(trained, tmp_path, call, call_json):
    (tmp_path / "lines.txt").write_text("the dog\n\nthe fox\n", encoding="utf-8")
    command = ("score", trained / "run", tmp_path / "lines.txt")
    rows = call(*command).out.splitlines()
    assert [row for row in rows if row.endswith("(empty line, not scored)")] == [rows[2]]
    assert rows[2].split()[:2] == ["-", "-"]
    assert call_json(*command)["characters"] == len("the dog") + len("the fox")


def test_a_missing_file_is_refused(trained, refuse):
    assert "nowhere" in refuse("score", trained / "run", "nowhere")
