"""The comparison: one budget for all, resumable by trials, a table that says what it is."""

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tasks.conftest import TEXT, figures

from stochloc.cli import main
from stochloc.data import held_out_windows
from stochloc.methods import METHODS, TABLE_1
from stochloc.nn import Backbone
from stochloc.tasks.compare.agenda import Agenda, choose_rate
from stochloc.tasks.compare.archive import read_trials, take_trials
from stochloc.tasks.compare.budget import Budget
from stochloc.tasks.compare.contest import Contest, parse_methods
from stochloc.tasks.compare.judge import entropy_bits, make_judge
from stochloc.tasks.compare.result import result_name
from stochloc.tasks.compare.run_trial import default_type, run_trial
from stochloc.tasks.compare.summary import summarise
from stochloc.tasks.compare.table import make_row
from stochloc.tasks.compare.trial import Scoring, Trial
from stochloc.tasks.compare.trial_run import TrialRun
from stochloc.tasks.data_choice import DataChoice
from stochloc.training.recipes import TrainingConfig
from stochloc.viz.comparison import LearningPicture

pytestmark = pytest.mark.bulk

PUBLISHED = Path(__file__).parents[2] / "docs" / "compare"
TINY = (
    "--length", "8", "--batch-size", "4", "--width", "16", "--depth", "1", "--heads", "2",
    "--windows", "6", "--samples", "2", "--texts", "3", "--steps", "2", "4",
    "--accelerator", "cpu", "--fractions", "0.8", "0.1", "0.1",
)  # fmt: skip
SMALL = (*TINY, "--short", "0.5", "--grid", "1e-3", "1e-2")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("compared") / "text.txt"
    path.write_text(TEXT * 20, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def compared(text, cache):
    """A finished comparison; tests may read it, never write."""
    folder = text.parent / "comparison"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        main(["compare", "--data", str(text), "--out", str(folder), "--methods", "ar,mdlm,dsl",
              "--seeds", "2", "--budget", "updates=6", *SMALL])  # fmt: skip
    return folder


def results(folder):
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(folder.glob("trials/*/result.json"))
    }


def test_every_method_gets_the_same_budget_text_and_seeds(compared):
    trials = results(compared)
    assert len(trials) == 3 * (2 + 2)
    full = [result for result in trials.values() if not result["trial"]["is_short"]]
    assert {result["updates"] for result in full} == {6}
    assert {r["updates"] for r in trials.values() if r["trial"]["is_short"]} == {3}
    assert {result["tokens"] for result in full} == {6 * 4 * 8}
    assert {result["windows"] for result in full} == {6}
    for method in ("ar", "mdlm", "dsl"):
        seeds = [r["trial"]["training"]["seed"] for r in full if r["trial"]["method"] == method]
        assert sorted(seeds) == [0, 1]
    assert not list(compared.rglob("checkpoint.safetensors"))


def test_the_rate_of_the_full_trials_is_the_best_of_the_grid_on_validation_text(compared):
    trials = results(compared)
    for method in ("ar", "mdlm", "dsl"):
        own = [r for r in trials.values() if r["trial"]["method"] == method]
        short = [r for r in own if r["trial"]["is_short"]]
        best = min(short, key=lambda r: r["curve"][-1]["bits_per_token"])
        rates = {r["trial"]["training"]["learning_rate"] for r in own if r not in short}
        assert rates == {best["trial"]["training"]["learning_rate"]}


def test_the_table_holds_a_line_for_each_method_in_markdown_csv_and_json(compared):
    table = (compared / "table.md").read_text()
    described = json.loads((compared / "comparison.json").read_text())
    trials = results(compared)
    for row in described["methods"]:
        own = [
            r for r in trials.values()
            if r["trial"]["method"] == row["method"] and not r["trial"]["is_short"]
        ]  # fmt: skip
        bits = [r["bits_per_character"] for r in own]
        assert row["bits"] == pytest.approx(sum(bits) / 2)
        assert row["seed_stderr"] == pytest.approx(abs(bits[0] - bits[1]) / 2)
        sign = "" if row["method"] == "ar" else "≤ "
        assert f"| {row['method']} | {sign}{row['bits']:.3f} ± {row['stderr']:.3f} |" in table
    assert [row["bits"] for row in described["methods"]] == sorted(
        row["bits"] for row in described["methods"]
    )
    with (compared / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["steps"]) for line in lines] == [
        (row["method"], steps) for row in described["methods"] for steps in ("2", "4")
    ]


def test_the_table_holds_exact_bits_from_left_to_right_of_methods_that_give_them(compared):
    table = (compared / "table.md").read_text()
    rows = {
        row["method"]: row
        for row in json.loads((compared / "comparison.json").read_text())["methods"]
    }
    assert rows["ar"]["left_to_right"] == pytest.approx(rows["ar"]["bits"])
    assert rows["ar"]["left_to_right_stderr"] == pytest.approx(rows["ar"]["stderr"])
    assert rows["mdlm"]["left_to_right"] is None
    trials = [r for r in results(compared).values() if r["trial"]["method"] == "dsl"]
    full = [r["left_to_right"] for r in trials if not r["trial"]["is_short"]]
    assert rows["dsl"]["left_to_right"] == pytest.approx(
        sum(one["bits_per_character"] for one in full) / len(full)
    )
    for method, row in rows.items():
        sign = "" if method == "ar" else "≤ "
        cell = "" if method == "mdlm" else (
            f"{row['left_to_right']:.3f} ± {row['left_to_right_stderr']:.3f}"
        )  # fmt: skip
        assert f"| {method} | {sign}{row['bits']:.3f} ± {row['stderr']:.3f} | {cell} |" in table


@pytest.mark.parametrize("name", ["learning", "samples"])
def test_both_figures_are_drawn_from_the_data_beside_them(compared, name):
    with (compared / f"{name}.csv").open() as file:
        methods = {line["method"] for line in csv.DictReader(file)}
    assert methods == {"ar", "mdlm", "dsl"}
    assert (compared / f"{name}.png").stat().st_size > 5000
    assert (compared / f"{name}.svg").read_text().count("</svg>") == 1


def test_a_finished_comparison_is_shown_again_without_training(compared, text, call, tmp_path):
    folder = shutil.copytree(compared, tmp_path / "again")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/result.json")}
    printed = call("compare", "--data", text, "--out", folder, "--methods", "ar,mdlm,dsl",
                   "--seeds", "2", "--budget", "updates=6", *SMALL)  # fmt: skip
    assert printed.out.strip() == (compared / "table.md").read_text().strip()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_methods_and_seeds_may_join_later(compared, text, call_json, tmp_path):
    folder = shutil.copytree(compared, tmp_path / "more")
    (redone,) = (folder / "trials").glob("mdlm-full-*-seed0")
    shutil.rmtree(redone)
    described = call_json("compare", "--data", text, "--out", folder, "--methods", "md4,mdlm",
                          "--budget", "updates=6", *SMALL)  # fmt: skip
    seeds = {row["method"]: row["seeds"] for row in described["methods"]}
    assert seeds == {"ar": 2, "mdlm": 1, "dsl": 2, "md4": 1}
    # Whenever it joins, seed 0 draws the same text and the same masks.
    bits = [results(place)[redone.name]["bits_per_character"] for place in (compared, folder)]
    assert bits[0] == bits[1]


@pytest.mark.parametrize("name", ["", "trials.jsonl"])
def test_a_comparison_begins_from_the_file_of_another_without_training(
    compared, text, call, tmp_path, monkeypatch, name
):
    def training(self):
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(TrialRun, "update", training)
    folder = tmp_path / "again"
    call("compare", "--data", text, "--out", folder, "--methods", "ar,mdlm,dsl", "--from",
         compared / name, "--seeds", "2", "--budget", "updates=6", *SMALL)  # fmt: skip
    for file in ("table.md", "table.csv", "comparison.json", "trials.jsonl"):
        assert (folder / file).read_bytes() == (compared / file).read_bytes()
    names = [result_name(result) for result in read_trials(compared)]
    assert names == sorted(results(compared))


def test_trials_of_a_file_do_not_replace_those_that_are_there(compared, tmp_path):
    folder = shutil.copytree(compared, tmp_path / "own")
    changed = next(folder.glob("trials/ar-full*/result.json"))
    own = json.loads(changed.read_text()) | {"updates": 77}
    changed.write_text(json.dumps(own))
    shutil.rmtree(next(folder.glob("trials/dsl-full*")))
    take_trials(compared, folder)
    assert results(folder) == results(compared) | {changed.parent.name: own}


def as_of_before_revisions(file, method):
    """Make the trials of a method what they were when no trial named a revision."""
    result = json.loads(file.read_text())
    if result["trial"]["method"] == method:
        del result["trial"]["method_revision"]
        file.write_text(json.dumps(result))


def test_trials_of_a_method_that_has_changed_since_are_run_again_and_others_are_not(
    compared, text, call, tmp_path
):
    folder = shutil.copytree(compared, tmp_path / "earlier")
    for file in folder.glob("trials/*/result.json"):
        as_of_before_revisions(file, "mdlm")
        as_of_before_revisions(file, "ar")
    before = {file: file.read_bytes() for file in folder.glob("trials/*/result.json")}
    shown = call("compare", "--data", text, "--out", folder, "--methods", "ar,mdlm", "--seeds",
                 "2", "--budget", "updates=6", *SMALL)  # fmt: skip
    again = {file.parent.name for file, was in before.items() if file.read_bytes() != was}
    assert {name.split("-")[0] for name in again} == {"mdlm"}
    assert len(again) == 4
    for name in again:
        assert f"{name}: the method has changed since this trial; it is run again." in shown.err
    assert "†" not in shown.out
    for name, result in results(folder).items():
        assert figures(result)["curve"] == figures(results(compared)[name])["curve"]
        assert ("method_revision" in result["trial"]) == (not name.startswith("ar-"))


def test_a_row_from_an_earlier_revision_is_marked_where_it_was_not_asked_for(
    compared, text, call, tmp_path
):
    folder = shutil.copytree(compared, tmp_path / "earlier")
    for file in folder.glob("trials/*/result.json"):
        as_of_before_revisions(file, "mdlm")
    table = call("compare", "--data", text, "--out", folder, "--methods", "ar", "--seeds", "2",
                 "--budget", "updates=6", *SMALL).out  # fmt: skip
    assert re.findall("([a-z]+) †", table) == ["mdlm"]
    assert "†: a trial of an earlier revision" in table


def test_a_checkpoint_of_an_earlier_revision_is_not_gone_on_from(text, tmp_path):
    own = contestant("mdlm", text, tmp_path)
    own.update()
    own.save()
    for revision, step in ((own.trial.method_revision, 1), (own.trial.method_revision + 1, 0)):
        trial = replace(own.trial, method_revision=revision)
        again = TrialRun(trial, own.corpus, tmp_path, torch.device("cpu"))
        again.load()
        assert again.step == step


def test_the_pages_mark_the_rows_whose_trials_are_of_an_earlier_revision():
    # A page may have rows of several archives: a row is of one that has its figure.
    newest, of_any = {}, {}
    for path in PUBLISHED.glob("*/trials.jsonl"):
        for result in read_trials(path):
            trial, figure = result["trial"], f"{result['bits_per_character']:.3f}"
            row = (path.parent.name.partition("-")[0], trial["method"])
            for rows, key in ((newest, (*row, figure)), (of_any, row)):
                rows[key] = max(rows.get(key, 0), trial["method_revision"])
    compared = 0
    for text in {text for text, _ in of_any}:
        page = (PUBLISHED.parent / "results" / f"compare-{text}.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| ([a-z0-9-]+)( †)? \| (?:≤ )?([\d.]+)", page, re.MULTILINE)
        for name, mark, figure in rows:
            if (text, name) in of_any:
                revision = newest.get((text, name, figure), of_any[text, name])
                assert bool(mark) == (revision < METHODS[name].revision), (text, name)
                compared += 1
    assert compared > 50


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda folder: (folder / "trials.jsonl").write_text("{}\n"), "Line 1 of .* is damaged"),
    (lambda folder: (folder / "trials.jsonl").write_bytes(b"\xff"), "Line 1 of .* is damaged"),
    (lambda folder: (folder / "trials.jsonl").unlink(), "trials.jsonl"),
    (lambda folder: (folder / "text.json").write_text("{"), "text.json is damaged"),
    (lambda folder: (folder / "text.json").write_text("{}"), "run on another text"),
])  # fmt: skip
def test_trials_that_cannot_be_taken_are_refused(compared, text, refuse, tmp_path, damage, reason):
    source = shutil.copytree(compared, tmp_path / "source")
    damage(source)
    sentence = refuse("compare", "--data", text, "--out", tmp_path / "out", "--methods", "ar",
                      "--from", source, "--budget", "updates=6", *SMALL)  # fmt: skip
    assert re.search(reason, sentence)


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/trials.jsonl")),
                         ids=lambda path: path.parent.name)  # fmt: skip
def test_the_published_trials_are_those_of_the_published_table(path):
    """Every figure of the table is computed again from the trials beside it."""
    table = json.loads((path.parent / "comparison.json").read_text())
    by_method = {}
    for result in read_trials(path):
        chosen = result["trial"]["method"], result["trial"]["training"]["learning_rate"]
        by_method.setdefault(chosen, []).append(result)
    for row in table["methods"]:
        own = by_method[row["method"], row["learning_rate"]]
        own.sort(key=lambda result: result["trial"]["training"]["seed"])
        assert make_row(own, 1.0).bits == row["bits"]


# Of 160 updates a hundred are saved when one is cut off within a trial.
LONGER = ("--methods", "multinomial", "--budget", "updates=160", *TINY, "--grid", "1e-2")


@pytest.fixture(scope="module", params=["adamw", "muon"])
def never_cut(request, text, cache):
    """An optimizer, and a finished comparison of one trial that takes longer."""
    folder = text.parent / f"never-cut-{request.param}"
    own = ("--optimizer", request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        main(["compare", "--data", str(text), "--out", str(folder), *LONGER, *own])
    return request.param, folder


@pytest.mark.bulk
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_comparison_cut_off_within_a_trial_resumes_to_the_same_figures(
    never_cut, text, call, tmp_path, jobs, monkeypatch
):
    cut = tmp_path / "cut"
    optimizer, whole = never_cut
    arguments = ("compare", "--data", text, "--out", cut, *LONGER, "--optimizer", optimizer)
    update = TrialRun.update
    with monkeypatch.context() as patch:

        def stopping(self):
            if self.step == 130:
                raise KeyboardInterrupt
            return update(self)

        patch.setattr(TrialRun, "update", stopping)
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        assert stopped.value.code == 130
    assert not results(cut)
    (checkpoint,) = cut.rglob("checkpoint.safetensors")
    assert checkpoint.stat().st_size > 0
    call(*arguments, "--jobs", jobs)
    (one,), (other,) = results(cut).values(), results(whole).values()
    assert figures(one)["curve"] == figures(other)["curve"]
    assert figures(one) == figures(other)


def test_a_grid_with_the_whole_budget_needs_no_other_trials_and_half_products_are_told(
    text, call_json, tmp_path
):
    described = call_json("compare", "--data", text, "--out", tmp_path, "--methods", "ar,dsl",
                          "--budget", "updates=4", *SMALL, "--short", "1", "--precision",
                          "bf16-mixed")  # fmt: skip
    assert {row["method"] for row in described["methods"]} == {"ar", "dsl"}
    trials = results(tmp_path)
    assert len(trials) == 4
    assert all(result["trial"]["half_products"] for result in trials.values())


@pytest.mark.parametrize(("arguments", "reason"), [
    (("--methods", "ar,nonesuch"), "nonesuch"), (("--methods", ""), "no method"),
    (("--budget", "updates=0"), "budget"), (("--budget", "epochs=3"), "budget"),
    (("--budget", "updates"), "budget"), (("--seeds", "0"), "seed"),
    (("--grid", "-1", "1e-3"), "--grid"), (("--grid", "1e-3", "1e-3"), "twice"),
    (("--jobs", "0"), "--jobs"), (("--length", "400"), "windows need"),
    (("--fractions", "0.9", "0.1", "0"), "test part"), (("--data", "nowhere.txt"), "nowhere.txt"),
    (("--short", "0"), "--short"), (("--windows", "0"), "windows"), (("--texts", "1"), "texts"),
    (("--steps", "0"), "steps"), (("--samples", "0"), "samples"),
    (("--heads", "3"), "heads"), (("--depth", "0"), "depth"),
    (("--fractions", "0.98", "0.01", "0.01"), "windows need"),
], ids=lambda value: "_".join(value) if isinstance(value, tuple) else "")  # fmt: skip
def test_a_comparison_that_cannot_be_is_refused(text, tmp_path, refuse, arguments, reason):
    sentence = refuse("compare", "--data", text, "--out", tmp_path / "out", "--methods", "ar",
                      "--budget", "updates=2", *SMALL, *arguments)  # fmt: skip
    assert reason in sentence
    assert not (tmp_path / "out").exists()


def test_a_training_runs_folder_is_refused(text, tmp_path, refuse):
    (tmp_path / "recipe.json").write_text("{}")
    sentence = refuse("compare", "--data", text, "--out", tmp_path, "--methods", "ar",
                      "--budget", "updates=2", *SMALL)  # fmt: skip
    assert "training run" in sentence
    assert not (tmp_path / "trials").exists()


def test_where_every_method_diverges_all_are_tried_and_one_sentence_says_so(text, refuse, tmp_path):
    sentence = refuse("compare", "--data", text, "--out", tmp_path / "out", "--methods",
                      "ar,mdlm", "--budget", "updates=4", *TINY, "--grid", "1e30")  # fmt: skip
    assert "diverged" in sentence
    assert [result["diverged"] for result in results(tmp_path / "out").values()] == [True, True]


def test_a_folder_of_another_comparison_is_refused_and_kept(compared, text, refuse, tmp_path):
    folder = shutil.copytree(compared, tmp_path / "other")
    sentence = refuse("compare", "--data", text, "--out", folder, "--methods", "ar",
                      "--budget", "updates=7", *SMALL)  # fmt: skip
    assert "other settings" in sentence
    assert results(folder) == results(compared)


def test_a_folder_of_another_text_is_refused_and_kept(compared, refuse, tmp_path):
    folder, other = shutil.copytree(compared, tmp_path / "other"), tmp_path / "other.txt"
    other.write_text(TEXT[::-1] * 20, encoding="utf-8")
    sentence = refuse("compare", "--data", other, "--out", folder, "--methods", "ar", "--seeds",
                      "2", "--budget", "updates=6", *SMALL)  # fmt: skip
    assert "another text" in sentence
    assert results(folder) == results(compared)


def test_a_damaged_result_is_one_sentence(compared, text, refuse, tmp_path):
    folder = shutil.copytree(compared, tmp_path / "damaged")
    next(folder.glob("trials/ar-short*/result.json")).write_text("{")
    sentence = refuse("compare", "--data", text, "--out", folder, "--methods", "ar", "--seeds",
                      "2", "--budget", "updates=6", *SMALL)  # fmt: skip
    assert "damaged" in sentence


def test_a_damaged_result_of_a_method_not_asked_for_is_one_sentence(
    compared, text, refuse, tmp_path
):
    folder = shutil.copytree(compared, tmp_path / "damaged")
    next(folder.glob("trials/mdlm-full*/result.json")).write_text('{"diverged": false}')
    sentence = refuse("compare", "--data", text, "--out", folder, "--methods", "ar", "--seeds",
                      "2", "--budget", "updates=6", *SMALL)  # fmt: skip
    assert "damaged" in sentence
    assert "mdlm" in sentence


def test_the_text_itself_is_judged_by_text_it_is_not_part_of(compared, text):
    corpus = DataChoice(str(text), fractions=(0.8, 0.1, 0.1)).load(None)
    windows = held_out_windows(corpus.valid, 8, 6)
    own = json.loads((compared / "comparison.json").read_text())["text"]
    assert own["judged"][0] == pytest.approx(make_judge(corpus).score(windows).judged.mean)


def test_bits_over_training_are_of_characters_whatever_the_tokens(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("né" * 2000, encoding="utf-8")
    choice = DataChoice(str(path), fractions=(0.8, 0.1, 0.1))
    corpus = choice.load_text("bytes")
    asked = Contest(choice, "bytes", ("ar",), Budget("updates", 6.0))
    curve = [{"tokens": 1, "seconds": 1.0, "bits_per_token": 2.0, "stderr": 0.2}]
    result = {
        "trial": asked.full_trials("ar", 1e-3)[0].to_dict(), "diverged": False, "stderr": 0.1,
        "is_exact": True, "parameters": 1, "updates": 1, "seconds": 1.0, "samples": [],
        "cpu_seconds_per_update": 3.0, "bits_per_character": 3.0, "curve": curve,
    }  # fmt: skip
    comparison = summarise(asked, corpus, make_judge(corpus), [result])
    # "né" is two characters of three bytes.
    assert comparison.tokens_per_character == pytest.approx(1.5, abs=0.02)
    header, row = LearningPicture(comparison).rows()
    assert row[header.index("bits_per_character")] == pytest.approx(3.0, abs=0.04)


def test_a_seed_that_diverged_is_named_and_left_out_of_the_average(compared, text):
    trials = [
        result
        for result in results(compared).values()
        if result["trial"]["method"] == "ar" and not result["trial"]["is_short"]
    ]
    lost = {**trials[1], "diverged": True}
    corpus = DataChoice(str(text), fractions=(0.8, 0.1, 0.1)).load(None)
    training = TrainingConfig(length=8)
    asked = Contest(DataChoice("text"), None, ("ar",), Budget("updates", 6.0), training=training)
    comparison = summarise(asked, corpus, make_judge(corpus), [trials[0], lost])
    assert comparison.rows[0].bits == trials[0]["bits_per_character"]
    assert comparison.diverged == ["ar, seed 1"]
    assert "ar, seed 1: training diverged" in comparison.table()
    assert comparison.to_dict()["diverged"] == ["ar, seed 1"]


def contest(**changes):
    values = {"methods": ("ar", "mdlm"), "grid": (1e-3, 2e-3), "short_share": 0.5, **changes}
    return Contest(DataChoice("text"), None, budget=Budget("updates", 10.0), **values)


def short_result(trial: Trial, bits: float):
    return {
        "diverged": not math.isfinite(bits),
        "curve": [{"bits_per_token": bits}],
        "trial": {"training": {"learning_rate": trial.training.learning_rate}},
    }


def test_the_agenda_takes_methods_in_order_and_all_first_seeds_before_any_second():
    agenda = Agenda(contest(num_seeds=2))
    taken = []
    while (trial := agenda.next()) is not None:
        taken.append((trial.method, trial.is_short, trial.training.seed))
        agenda.finish(trial, short_result(trial, 3.0))
    both = [(True, 0), (True, 0), (False, 0)]
    assert taken == [
        *(("ar", *kind) for kind in both), *(("mdlm", *kind) for kind in both),
        ("ar", False, 1), ("mdlm", False, 1),
    ]  # fmt: skip
    assert agenda.num_done == agenda.num_trials == 8


def test_a_method_that_diverges_everywhere_is_left_out_and_the_others_continue():
    agenda = Agenda(contest())
    while (trial := agenda.next()) is not None:
        bits = math.inf if trial.method == "ar" else 3.0
        agenda.finish(trial, short_result(trial, bits))
    assert set(agenda.full) == {"mdlm"}
    assert agenda.news == [
        "mdlm: learning rate 0.001 is best on validation text, the lowest tried."
    ]
    assert agenda.num_done == agenda.num_trials == 5


def test_a_grid_with_the_whole_budget_is_the_first_seed_itself():
    agenda, taken = Agenda(contest(short_share=1.0, num_seeds=2)), []
    while (trial := agenda.next()) is not None:
        taken.append((trial.method, trial.is_short, trial.training.learning_rate,
                      trial.training.seed))  # fmt: skip
        bits = 2.0 if trial.training.learning_rate == 2e-3 else 3.0
        agenda.finish(trial, short_result(trial, bits))
    assert taken == [
        ("ar", False, 1e-3, 0), ("ar", False, 2e-3, 0), ("mdlm", False, 1e-3, 0),
        ("mdlm", False, 2e-3, 0), ("ar", False, 2e-3, 1), ("mdlm", False, 2e-3, 1),
    ]  # fmt: skip
    assert agenda.num_done == agenda.num_trials == 6
    chosen = [result["trial"]["training"]["learning_rate"] for result in agenda.full_results()]
    assert chosen == [2e-3] * 4


def test_the_rate_chosen_is_the_lowest_finite_bound():
    trials = contest(grid=(1e-3, 2e-3, 4e-3)).grid_trials("ar")
    bits = (3.0, 2.5, math.inf)
    tried = [short_result(trial, b) for trial, b in zip(trials, bits, strict=True)]
    assert choose_rate(tried) == 2e-3
    assert choose_rate(tried[2:]) is None


def test_all_means_table_1_and_a_name_counts_once():
    assert parse_methods("all") == TABLE_1
    assert parse_methods("dsl, all") == ("dsl", *(name for name in TABLE_1 if name != "dsl"))
    assert parse_methods("ar,ar") == ("ar",)


@pytest.mark.parametrize(("budget", "share"), [
    ("updates=10", 0.3), ("tokens=640", 0.3), ("seconds=20", 0.25),
])  # fmt: skip
def test_a_budget_counts_updates_tokens_or_seconds(budget, share):
    assert Budget.parse(budget).share_used(3, 64, 5.0) == pytest.approx(share)


def test_the_error_over_seeds_is_that_of_their_mean():
    trial = Trial("a", Backbone(), TrainingConfig(), Budget("updates", 1.0))
    result = {
        "trial": trial.to_dict(), "stderr": 0.1, "is_exact": False, "parameters": 1, "updates": 1,
        "seconds": 1.0, "cpu_seconds_per_update": 3.0, "samples": [], "curve": [],
    }  # fmt: skip
    row = make_row([{**result, "bits_per_character": bits} for bits in (1.0, 2.0, 3.0)], 2.0)
    assert (row.bits, row.relative_cost) == (2.0, 1.5)
    assert row.seed_stderr == pytest.approx(1 / math.sqrt(3))


def test_entropy_within_a_sample_is_that_of_its_counts():
    tokens = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]])
    torch.testing.assert_close(entropy_bits(tokens, 4), torch.tensor([0, 2, 1]).double())


def contestant(method, text, folder):
    corpus = DataChoice(str(text), fractions=(0.8, 0.1, 0.1)).load(None)
    backbone, training = Backbone(16, 1, 2), TrainingConfig(length=8, batch_size=4)
    trial = Trial(method, backbone, training, Budget("updates", 12.0))
    return TrialRun(trial, corpus, folder, torch.device("cpu"))


@pytest.mark.parametrize("method", ["plaid", "discrete-flow", "argmax-flow", "latent-flow", "dsl"])
def test_a_trial_gives_the_same_figures_whatever_torchs_default_type_is(method, text, tmp_path):
    found = []
    for dtype in (torch.float32, torch.float64):
        folder = tmp_path / str(dtype)
        own = contestant(method, text, folder)
        trial = replace(
            own.trial, budget=Budget("updates", 2.0), scoring=Scoring(4, 1, 4, 1, 2, (2,))
        )
        with default_type(dtype):
            judge, device = make_judge(own.corpus), torch.device("cpu")
            found.append(figures(run_trial(trial, own.corpus, judge, folder, device, print)))
            assert torch.get_default_dtype() == dtype
    assert found[0] == found[1]


def test_a_trial_does_not_decay_parameters_that_its_method_excludes(text, tmp_path):
    own = contestant("argmax-flow", text, tmp_path)
    free = {
        id(parameter)
        for group in own.optimizer.param_groups
        if group["weight_decay"] == 0
        for parameter in group["params"]
    }
    assert len(own.method.undecayed()) == 3
    assert {id(parameter) for parameter in own.method.undecayed()} <= free


def test_a_trial_passes_its_method_the_share_of_the_budget_used_before_each_update(text, tmp_path):
    own, told = contestant("latent-flow", text, tmp_path), []
    own.method.prepare = told.append
    for _ in range(3):
        own.update()
    assert told == pytest.approx([1 / 12, 2 / 12, 3 / 12])
