"""What `eval` says of exact likelihoods, and of the deviation from the chain rule."""

import math

import pytest
from tasks.conftest import streams

from stochloc.core import bound, chain_deviation, left_to_right, right_to_left
from stochloc.data import held_out_windows
from stochloc.tasks.evaluate import Evaluation, evaluate
from stochloc.tasks.parts import tokens_to_evaluate
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import WalkSettings

IS_EXACT = {
    ("--policy", "confidence"): True,
    ("--policy", "entropy"): True,
    ("--policy", "confidence-apart"): True,
    ("--policy", "threshold:0.5"): True,
    ("--path", "autoregressive"): True,
    ("--path", "masked"): False,
    ("--path", "spread"): False,
    ("--path", "sweep"): True,
    ("--path", "diffusion"): False,
    ("--policy", "share"): False,
    ("--policy", "remdm-cap"): False,
    ("--path", "autoregressive", "--continuous"): False,
}


@pytest.mark.parametrize("choice", IS_EXACT, ids=" ".join)
def test_eval_says_which_bounds_are_the_samplers_own_likelihood(trained, call_json, choice):
    result = call_json("eval", trained / "run", "--split", "all", "--sequences", 2, "--steps", 5,
                       *choice)  # fmt: skip
    assert result["is_exact"] is IS_EXACT[choice]
    assert ("exact likelihood" in result["estimator"]) is IS_EXACT[choice]
    assert result["chain_rule"] is None


def test_left_to_right_takes_one_call_of_a_two_sided_model_and_is_its_chain_rule(
    trained, encoder, call_json
):
    flags = ("--split", "all", "--sequences", 3, "--path", "autoregressive")
    run = open_run(trained / "run")
    tokens, _ = tokens_to_evaluate(run, None, "all")
    exact = left_to_right(run.model, held_out_windows(tokens, 16, 3)).mean
    result = call_json("eval", trained / "run", *flags)
    assert result["nats_per_sequence"] == pytest.approx(exact, rel=1e-6)
    assert (result["is_exact"], result["denoiser_calls"], result["steps"]) == (True, 1, 16)
    # In fewer steps neighbours are decided together: another sampler, exact for itself.
    coarse = call_json("eval", trained / "run", *flags, "--steps", 4)
    assert (coarse["is_exact"], coarse["denoiser_calls"], coarse["steps"]) == (True, 4, 4)
    walked = call_json("eval", encoder, *flags)
    assert (walked["is_exact"], walked["denoiser_calls"], walked["steps"]) == (True, 16, 64)
    integral = call_json("eval", trained / "run", *flags, "--continuous")
    assert (integral["is_exact"], integral["steps"]) == (False, 64)


def test_eval_with_orders_reports_the_deviation_of_the_core_and_the_same_bound(trained, call_json):
    arguments = ("eval", trained / "run", "--split", "all", "--sequences", 5, "--steps", 4,
                 "--path", "masked")  # fmt: skip
    result = call_json(*arguments, "--orders", 2)
    figures = result.pop("chain_rule")
    plain = call_json(*arguments)
    plain.pop("chain_rule")
    assert result == plain
    run = open_run(trained / "run")
    tokens, _ = tokens_to_evaluate(run, None, "all")
    windows, drawing = held_out_windows(tokens, 16, 5), streams(0, 5)
    settings = WalkSettings(num_steps=4).resolve(run)
    policy, denoiser = settings.apply(run.model)
    bound(denoiser, windows, policy, settings.transition, 4, drawing)
    expected = chain_deviation(run.model, windows, 2, drawing)
    bits = 16 * math.log(2)
    assert figures["deviation_bits_per_token"] == pytest.approx(expected.mean / bits, rel=1e-6)
    assert figures["stderr"] == pytest.approx(expected.stderr / bits, rel=1e-6)
    assert figures["stderr"] > 0
    orders = [along.mean / bits for along in expected.along]
    assert [figures["left_to_right"], figures["right_to_left"]] == pytest.approx(orders[:2])
    assert figures["random_orders"] == pytest.approx(orders[2:])
    assert figures["left_to_right"] == pytest.approx(left_to_right(run.model, windows).mean / bits)
    assert figures["right_to_left"] == pytest.approx(right_to_left(run.model, windows).mean / bits)
    assert figures["denoiser_calls"] == expected.denoiser_calls


def test_orders_are_the_same_in_batches_of_any_size(trained, monkeypatch):
    run = open_run(trained / "run")
    tokens, _ = tokens_to_evaluate(run, None, "all")
    evaluation = Evaluation(WalkSettings(num_steps=2), num_sequences=5, num_orders=1)
    together = evaluate(run, tokens, evaluation).deviation
    monkeypatch.setattr("stochloc.tasks.batches.MOST_TOKENS", 2 * run.length)
    apart = evaluate(run, tokens, evaluation).deviation
    assert together is not None
    assert apart is not None
    assert apart.values.tolist() == pytest.approx(together.values.tolist(), abs=1e-4)


def test_eval_tells_people_of_the_orders_and_refuses_fewer_than_none(trained, call, capsys):
    arguments = ("eval", trained / "run", "--split", "all", "--sequences", 2, "--steps", 2)
    assert "deviation from the chain rule" in call(*arguments, "--orders", 0).out
    assert "deviation" not in call(*arguments).out
    with pytest.raises(SystemExit, match="2"):
        call(*arguments, "--orders", -1)
    assert "at least 0, not -1" in capsys.readouterr().err
