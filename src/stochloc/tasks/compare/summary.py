"""The summary of a contest's full trials as a comparison."""

import math
from collections.abc import Sequence
from pathlib import Path

from stochloc.data import Corpus, held_out_windows
from stochloc.tasks.compare.contest import Contest
from stochloc.tasks.compare.judge import Judge
from stochloc.tasks.compare.result import RESULT, Result, read_result
from stochloc.tasks.compare.table import Comparison, make_row
from stochloc.tasks.counting import characters_in

# The method whose update is the unit of the others' relative cost.
REFERENCE = "ar"


def earlier_results(contest: Contest, folder: Path) -> list[Result]:
    """Return the results of earlier full trials of other methods in the same folder.

    Args:
        contest: Its methods are excluded, and so are trials with other settings.
        folder: Holds a folder for each trial.

    Returns:
        The results, lower seeds first; of a method with several learning rates, those at the rate
        with the lowest validation bound.

    Raises:
        ValueError: A result is damaged.
    """
    by_method: dict[str, dict[float, list[Result]]] = {}
    for path in sorted(folder.glob(f"*/{RESULT}")):
        result = read_result(path)
        method, training = result["trial"]["method"], result["trial"]["training"]
        rate = training["learning_rate"]
        expected = contest.full_trials(method, rate)[0].to_dict()
        expected["training"]["seed"] = training["seed"]
        # What nobody asked to run again is shown as it is; the table marks it.
        expected["method_revision"] = result["trial"]["method_revision"]
        if method in contest.methods or result["diverged"] or result["trial"] != expected:
            continue
        by_method.setdefault(method, {}).setdefault(rate, []).append(result)
    chosen = [
        min(rates.values(), key=lambda own: own[0]["curve"][-1]["bits_per_token"])
        for rates in by_method.values()
    ]
    return [
        result
        for own in chosen
        for result in sorted(own, key=lambda one: one["trial"]["training"]["seed"])
    ]


def summarise(
    contest: Contest, corpus: Corpus, judge: Judge, results: Sequence[Result]
) -> Comparison:
    """Return the summary of full trials.

    Args:
        contest: The methods and settings that were compared.
        corpus: The text.
        judge: Scores the validation text.
        results: Results of full trials, lower seeds first.

    Returns:
        The comparison, with rows in ascending order of bits per character.
    """
    finished: dict[str, list[Result]] = {}
    diverged: list[str] = []
    for result in results:
        method, seed = result["trial"]["method"], result["trial"]["training"]["seed"]
        if result["diverged"]:
            diverged.append(f"{method}, seed {seed}")
        else:
            finished.setdefault(method, []).append(result)
    costs = [result["cpu_seconds_per_update"] for result in finished.get(REFERENCE, [])]
    reference_s = sum(costs) / len(costs) if costs else math.nan
    rows = [make_row(own, reference_s) for own in finished.values()]
    # The judge is fitted to the test text, so the text's own score is that of the validation text.
    windows = held_out_windows(corpus.valid, contest.training.length, contest.scoring.windows)
    return Comparison(
        judge.score(windows),
        windows.numel() / int(characters_in(corpus.tokenizer, windows).sum()),
        contest.settings(),
        sorted(rows, key=lambda row: row.bits),
        [method for method in contest.methods if method not in finished],
        diverged,
    )
