"""What evaluation, generation and training through the command line return."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from tasks.conftest import TEXT, streams

from stochloc.cli import main
from stochloc.core import Ancestral, Euler, Follow, bound, line_integral, sample, start
from stochloc.core.denoisers.blocked import BLOCK_SIZE
from stochloc.data import held_out_windows
from stochloc.nn import LocalizationModel
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.correct.correct import correct
from stochloc.tasks.correct.decoding import OnePass
from stochloc.tasks.evaluate import Evaluation, evaluate
from stochloc.tasks.generate import generate, generate_batches, prompt_tokens
from stochloc.tasks.infill.fill import Infilling, infill
from stochloc.tasks.parts import tokens_to_evaluate
from stochloc.tasks.paths import named_path
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import Walk, WalkSettings

pytestmark = pytest.mark.bulk

PATHS = ("masked", "spread", "sweep", "diffusion", "autoregressive", "block", "rolling", "hybrid")
TRANSITIONS = {"ancestral": Ancestral(), "euler": Euler()}


@pytest.fixture
def opened(trained):
    return open_run(trained / "run")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_eval_prints_the_bound_of_the_core_for_the_same_windows_and_seed(
    trained, opened, call_json, path, transition
):
    result = call_json("eval", trained / "run", "--data", trained / "text.txt", "--split", "all",
                       "--path", path, "--transition", transition, "--steps", 6,
                       "--sequences", 5, "--seed", 3)  # fmt: skip
    tokens = opened.tokenizer.encode((trained / "text.txt").read_text())
    windows = held_out_windows(tokens, 16, 5)
    expected = bound(opened.model, windows, Follow(named_path(path)), TRANSITIONS[transition], 6,
                     streams(3, 5))  # fmt: skip
    assert result["nats_per_sequence"] == pytest.approx(expected.mean, rel=1e-9)
    assert result["nats_per_sequence_stderr"] == pytest.approx(expected.stderr, rel=1e-9)
    assert result["denoiser_calls"] == expected.denoiser_calls
    assert result["transition"] == transition
    assert result["path"] == path


@pytest.mark.parametrize("path", PATHS)
def test_eval_continuous_prints_the_line_integral_of_the_core(trained, opened, call_json, path):
    result = call_json("eval", trained / "run", "--split", "all", "--path", path, "--continuous",
                       "--steps", 3, "--sequences", 4)  # fmt: skip
    tokens = opened.tokenizer.encode((trained / "text.txt").read_text())
    expected = line_integral(opened.model, held_out_windows(tokens, 16, 4), named_path(path, True),
                             3, streams(0, 4))  # fmt: skip
    assert result["nats_per_sequence"] == pytest.approx(expected.mean, rel=1e-9)
    assert result["denoiser_calls"] == expected.denoiser_calls
    assert result["transition"] is None


def test_the_units_of_an_evaluation_agree_with_each_other(trained, call_json):
    result = call_json("eval", trained / "run", "--sequences", 6, "--steps", 4)
    bits = result["nats_per_sequence"] / math.log(2) / 16
    assert result["length"] == 16
    assert result["bits_per_token"] == pytest.approx(bits)
    assert result["bits_per_character"] == pytest.approx(bits)
    spread = result["nats_per_sequence_stderr"] / math.log(2) / 16
    assert result["stderr"] == pytest.approx(spread)
    assert result["bits_per_character_stderr"] == pytest.approx(spread)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["tokens"] == result["characters"] == 6 * 16


@pytest.mark.bulk
def test_bits_per_character_have_the_error_of_a_ratio_over_blocks(opened, tmp_path, call):
    """Half the text takes two bytes a character, so windows hold 16 characters or 8."""
    (tmp_path / "text.txt").write_text(("abcd" * 80 + "äöüß" * 40) * 9, encoding="utf-8")
    call("train", "--data", tmp_path / "text.txt", "--out", tmp_path / "run", "--tokenizer",
         "bytes", "--steps", 1, "--length", 16, "--width", 8, "--depth", 1, "--heads", 2,
         "--batch-size", 2, "--accelerator", "cpu")  # fmt: skip
    run = open_run(tmp_path / "run")
    tokens, _ = tokens_to_evaluate(run, None, "all")
    evaluated = evaluate(run, tokens, Evaluation(WalkSettings(num_steps=16), num_sequences=0))
    result, nats = evaluated.to_dict(), evaluated.estimate.values
    characters = evaluated.characters.double()
    assert {8, 16} <= set(characters.tolist())
    bits = result["bits_per_character"] * math.log(2)
    blocks = [float(b.sum()) for b in (nats - bits * characters).tensor_split(20)]
    expected = math.sqrt(sum(b * b for b in blocks) * 20 / 19) / float(characters.sum())
    assert result["bits_per_character_stderr"] == pytest.approx(expected / math.log(2), rel=1e-6)


def test_one_held_out_window_leaves_metrics_that_are_json(tmp_path, call):
    def no_number(name):
        raise AssertionError(name)

    (tmp_path / "text.txt").write_text(TEXT * 5, encoding="utf-8")
    captured = call("train", "--data", tmp_path / "text.txt", "--out", tmp_path / "run", "--steps",
                    2, "--length", 8, "--width", 8, "--depth", 1, "--heads", 2)  # fmt: skip
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line, parse_constant=no_number) for line in lines]
    assert records[-1]["stderr"] is None
    assert "±" not in captured.err
    assert "nan" not in captured.err


def test_a_model_of_slots_says_that_one_layout_is_bounded(trained, tmp_path, call, call_json):
    call("train", "--data", trained / "text.txt", "--out", tmp_path / "run", "--slots", "--steps",
         1, "--length", 16, "--width", 8, "--depth", 1, "--heads", 2)  # fmt: skip
    result = call_json("eval", tmp_path / "run", "--sequences", 2, "--steps", 2)
    assert "one layout of the text" in result["counted"]
    assert result["tokens"] == 32
    assert result["characters"] == 16
    assert "one layout" in call("eval", tmp_path / "run", "--sequences", 2, "--steps", 2).out
    record = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(record)["counted"] == result["counted"]


def test_one_sequence_has_no_standard_error_and_0_means_all(trained, call, call_json):
    one = call_json("eval", trained / "run", "--sequences", 1, "--steps", 2)
    assert one["stderr"] is None
    assert one["nats_per_sequence_stderr"] is None
    assert "±" not in call("eval", trained / "run", "--sequences", 1, "--steps", 2).out
    everything = call_json(
        "eval", trained / "run", "--sequences", 0, "--split", "all", "--steps", 1
    )
    assert everything["sequences"] == 59 * 40 // 16


def test_the_same_seed_gives_the_same_bound_and_another_seed_another(trained, call_json):
    def nats(seed):
        return call_json("eval", trained / "run", "--sequences", 4, "--path", "masked",
                         "--seed", seed)["nats_per_sequence"]  # fmt: skip

    assert nats(1) == nats(1) != nats(2)


def test_a_text_shorter_than_a_window_is_refused_with_advice_that_the_command_knows(
    trained, tmp_path, refuse, capsys
):
    (tmp_path / "short.txt").write_text("the dog", encoding="utf-8")
    for command in (("eval",), ("plot", "error")):
        out = ("--out", tmp_path / "figures") if command[0] == "plot" else ()
        said = refuse(*command, trained / "run", "--data", tmp_path / "short.txt", *out)
        assert "7 tokens but a window takes 16; give a longer text." in said
        with pytest.raises(SystemExit):
            main([command[0], "--help"])
        known = capsys.readouterr().out
        assert {"--data", *re.findall(r"--[a-z-]+", said)} <= set(re.findall(r"--[a-z-]+", known))


def test_splits_are_the_parts_of_the_text_in_order(trained, opened):
    parts = {name: tokens_to_evaluate(opened, None, name)[0] for name in ("train", "valid", "test")}
    together, description = tokens_to_evaluate(opened, str(trained / "text.txt"), "all")
    np.testing.assert_array_equal(np.concatenate(list(parts.values())), together)
    assert [len(part) for part in parts.values()] == [2124, 118, 118]
    assert "all of" in description
    np.testing.assert_array_equal(tokens_to_evaluate(opened, None, None)[0], parts["test"])


def test_another_file_is_evaluated_whole(trained, opened, tmp_path):
    (tmp_path / "other.txt").write_text("the dog runs. " * 9, encoding="utf-8")
    tokens, description = tokens_to_evaluate(opened, str(tmp_path / "other.txt"), None)
    assert opened.tokenizer.decode(tokens) == "the dog runs. " * 9
    assert description == f"all of {tmp_path / 'other.txt'}"


@pytest.mark.parametrize("length", [15, 16])
def test_characters_of_several_bytes_are_counted_once_even_where_a_window_cuts_them(
    opened, tmp_path, call, length
):
    """Every character takes two bytes, so bits per character are exactly twice bits per token."""
    (tmp_path / "text.txt").write_text("äöüß" * 300, encoding="utf-8")
    call("train", "--data", tmp_path / "text.txt", "--out", tmp_path / "run", "--tokenizer",
         "bytes", "--steps", 1, "--length", length, "--width", 8, "--depth", 1, "--heads", 2,
         "--batch-size", 2, "--accelerator", "cpu")  # fmt: skip
    run = open_run(tmp_path / "run")
    tokens, _ = tokens_to_evaluate(run, None, "all")
    result = evaluate(run, tokens, Evaluation(WalkSettings(num_steps=1), num_sequences=0)).to_dict()
    assert result["sequences"] == 2400 // length
    assert result["bits_per_character"] == pytest.approx(2 * result["bits_per_token"], rel=1e-9)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_sample_prints_what_the_core_draws_with_the_same_seed(
    trained, opened, call_json, path, transition
):
    result = call_json("sample", trained / "run", "--n", 2, "--steps", 5, "--path", path,
                       "--transition", transition, "--seed", 9, "--prompt", "the ")  # fmt: skip
    known = prompt_tokens(opened.tokenizer, "the ", 2, 16)
    drawn = sample(opened.model, start(opened.model.codebook, 2, 16, known),
                   Follow(named_path(path)), TRANSITIONS[transition], 5, streams(9, 2))  # fmt: skip
    assert result["samples"] == [opened.tokenizer.decode(row) for row in drawn.tokens]
    assert result["denoiser_calls"] == drawn.denoiser_calls
    assert set(result) == {"samples", "denoiser_calls", "seconds", "snr_received", "lengths"}
    assert result["lengths"] == [16, 16]
    # A number for every token of every text: only who asks for a trace is told them.
    assert result["snr_received"] is None


def test_a_text_is_the_same_however_many_are_drawn_beside_it(trained, call_json):
    for policy in ("path", "threshold", "tolerance"):
        one, five = (
            call_json("sample", trained / "run", "--n", n, "--steps", 8, "--policy", policy)
            for n in (1, 5)
        )
        assert five["samples"][:1] == one["samples"]


@pytest.mark.parametrize("continuous", [False, True])
def test_windows_cost_the_same_in_batches_of_any_size(opened, trained, monkeypatch, continuous):
    tokens, _ = tokens_to_evaluate(opened, None, "all")
    evaluation = Evaluation(WalkSettings(num_steps=4), num_sequences=7, continuous=continuous)
    together = evaluate(opened, tokens, evaluation).estimate
    monkeypatch.setattr("stochloc.tasks.batches.MOST_TOKENS", 3 * opened.length)
    apart = evaluate(opened, tokens, evaluation).estimate
    torch.testing.assert_close(apart.token_nats, together.token_nats, rtol=1e-4, atol=1e-4)


def test_texts_are_the_same_in_batches_of_any_size_and_printed_batch_by_batch(
    trained, call, call_traced, monkeypatch, capsys
):
    arguments = ("sample", trained / "run", "--n", 7, "--steps", 6, "--policy", "tolerance:0.3")
    together, printed = call_traced(*arguments), call(*arguments).out
    assert printed == "".join(f"{text}\n\n" for text in together["samples"])
    monkeypatch.setattr("stochloc.tasks.batches.MOST_TOKENS", 3 * 16)
    apart, sizes = call_traced(*arguments), []
    assert apart["samples"] == together["samples"]
    assert apart["denoiser_calls"] == together["denoiser_calls"]
    assert np.allclose(apart["snr_received"], together["snr_received"], atol=1e-3)
    walk = Walk(named_path("masked"), Ancestral(), 6)
    run = open_run(trained / "run")
    for batch in generate_batches(run, 7, 16, walk):
        sizes.append(len(batch.samples))
    assert sizes == [3, 3, 1]
    steps = []
    generate(run, 4, 16, walk, trace=steps.append)
    assert [(s["first_text"], s["step"], len(s["texts"])) for s in steps] == [
        (first, step, size) for first, size in ((0, 3), (3, 1)) for step in range(1, 7)
    ]


def test_a_batch_is_bounded_by_its_tokens_and_by_tokens_times_a_block_of_the_vocabulary():
    assert rows_at_once(64, 27) == 256
    assert rows_at_once(128, 50_000) == rows_at_once(128, BLOCK_SIZE) == 16
    assert rows_at_once(4096, 50_000) == 1
    for length in (1, 16, 1000):
        for size in (2, 1024, 30_000, 10**6):
            rows = rows_at_once(length, size)
            assert rows == 1 or (
                rows * length <= 2**14 and rows * length * min(size, BLOCK_SIZE) <= 2**24
            )


@pytest.mark.bulk
def test_no_task_outgrows_a_batch(opened, trained, call, monkeypatch, tmp_path):
    """Every task that shows a model several texts shows it no more than a batch's at once."""
    shutil.copytree(trained / "run", tmp_path / "run")
    monkeypatch.setattr("stochloc.tasks.batches.MOST_TOKENS", 2 * 16)
    # Enough for several batches in every task.
    monkeypatch.setattr("stochloc.tasks.tune.KNOWN_SHARES", 2)
    monkeypatch.setattr("stochloc.tasks.tune.SNR_LEVELS", (0, 1, 4))
    monkeypatch.setattr("stochloc.tasks.tune.REPORTED_STEPS", (4,))
    monkeypatch.setattr("stochloc.tasks.correct.calibration.NUM_WINDOWS", 5)
    monkeypatch.setattr("stochloc.tasks.correct.calibration.NOISE_RATES", (0.05,))
    rows, readout = [], LocalizationModel._readout

    def watched(model, hidden, state):
        rows.append(len(hidden))
        return readout(model, hidden, state)

    monkeypatch.setattr(LocalizationModel, "_readout", watched)
    (tmp_path / "lines").write_text("the dog\nthe fox\nthe cow\nthe man\n" * 2, encoding="utf-8")
    for command in (
        ("eval", "--sequences", 5, "--steps", 2), ("sample", "--n", 5, "--steps", 2),
        ("infill", "the _o_", "--draws", 9), ("infill", "the {1-2} dog", "--draws", 9),
        ("tune", "--sequences", 5), ("correct", "the quikc brown fox " * 4),
    ):  # fmt: skip
        rows.clear()
        call(command[0], tmp_path / "run", *command[1:])
        assert rows and max(rows) == 2, command


def test_a_prompt_that_fills_the_text_comes_back_without_asking_the_model(trained, call_json):
    result = call_json("sample", trained / "run", "--prompt", "the lazy dog", "--length", 12)
    assert result["samples"] == ["the lazy dog"] * 4
    assert result["denoiser_calls"] == 0


def test_a_vanishing_temperature_draws_the_most_likely_text_whatever_the_seed(trained, call_json):
    def drawn(seed, temperature):
        result = call_json("sample", trained / "run", "--n", 3, "--path", "autoregressive",
                           "--steps", 16, "--seed", seed, "--temperature", temperature)  # fmt: skip
        return result["samples"]

    for temperature in ("1e-6", "1e-300"):
        assert drawn(1, temperature) == drawn(2, temperature)
        assert len(set(drawn(1, temperature))) == 1
    assert drawn(1, "1") != drawn(2, "1")


def test_a_long_text_is_drawn_with_a_warning_on_stderr(trained, call):
    captured = call("sample", trained / "run", "--n", 1, "--length", 40, "--json")
    assert len(json.loads(captured.out)["samples"][0]) == 40
    assert captured.err.startswith("stochloc: the model was trained on windows of 16 tokens")


def test_a_trace_follows_the_walk_and_keeps_the_prompt(opened):
    steps = []
    result = generate(opened, 2, 16, Walk(named_path("masked"), Ancestral(), 4), "the ", 0,
                      steps.append)  # fmt: skip
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    shares = [step["known"] for step in steps]
    assert shares == sorted(shares)
    assert shares[0] > 4 / 16
    assert shares[-1] == 1
    assert all(text.startswith("the ") for step in steps for text in step["texts"])
    assert steps[-1]["texts"] == result.samples
    assert steps[-1]["snr"] is None
    assert result.denoiser_calls == 4


def test_who_looks_on_gets_the_texts_of_who_does_not(opened):
    """From left to right, a token a step: only without a trace does the model read and remember."""
    walk, steps = Walk(named_path("autoregressive"), Ancestral(), 16, temperature=0.8), []
    watched = generate(opened, 5, 16, walk, "the ", 3, steps.append)
    assert generate(opened, 5, 16, walk, "the ", 3).samples == watched.samples
    assert len(steps) == watched.denoiser_calls == 12


def test_training_says_nothing_on_stdout_and_where_the_model_is_on_stderr(trained, call, tmp_path):
    captured = call("train", "--data", trained / "text.txt", "--out", tmp_path / "run", "--steps",
                    1, "--length", 8, "--width", 8, "--depth", 1, "--heads", 2)  # fmt: skip
    assert captured.out == ""
    assert f"The model is in {tmp_path / 'run'}" in captured.err
    assert "bits per token" in captured.err


def test_a_resumed_dry_run_prints_the_runs_recipe_and_trains_nothing(trained, call):
    before = (trained / "run" / "checkpoint.safetensors").stat().st_mtime_ns
    recipe = json.loads(call("train", "--out", trained / "run", "--resume", "--dry-run").out)
    assert recipe["training"]["num_steps"] == 4
    assert recipe["model"]["width"] == 16
    kept = json.loads((trained / "run" / "recipe.json").read_text())["hardware"]
    assert recipe["hardware"] == kept
    precise = call("train", "--out", trained / "run", "--resume", "--dry-run", "--devices", 2)
    assert json.loads(precise.out)["hardware"] == {**kept, "devices": 2}
    assert (trained / "run" / "checkpoint.safetensors").stat().st_mtime_ns == before


def test_the_same_command_with_resume_added_is_no_contradiction(trained, call):
    before = (trained / "run" / "model.safetensors").read_bytes()
    call("train", "--data", trained / "text.txt", "--out", trained / "run", "--preset", "tiny",
         "--steps", 4, "--width", 16, "--tokenizer", "characters", "--fractions", 0.9, 0.05, 0.05,
         "--resume")  # fmt: skip
    assert (trained / "run" / "model.safetensors").read_bytes() == before


def test_a_default_type_of_float64_changes_neither_a_run_nor_what_it_says(trained):
    """Programs that compute in float64 set it for the whole process; a run is in float32."""
    tokens = np.arange(60) % 20

    def figures():
        run = open_run(trained / "run")
        bounded = evaluate(
            run, tokens, Evaluation(WalkSettings(num_steps=4), num_sequences=3)
        ).to_dict()
        drawn = generate(run, 2, 16, Walk(named_path("hybrid"), Euler(), 6), "the ", 1)
        filled = infill(run, "the _ick br_wn", Infilling(num_draws=3), ("a-z",)).answers
        corrected = correct(run, "the quick", OnePass(0.5), 5.0).text
        types = {tensor.dtype for tensor in run.model.state_dict().values()}
        return types, bounded, drawn.samples, filled, corrected

    expected = figures()
    torch.set_default_dtype(torch.float64)
    try:
        assert figures() == expected
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert expected[0] == {torch.float32}
