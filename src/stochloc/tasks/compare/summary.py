"""The results of a contest's full trials, summed up as a comparison."""

import math
from collections.abc import Sequence
from pathlib import Path

from stochloc.data import Corpus, held_out_windows
from stochloc.tasks.compare.contest import Contest
from stochloc.tasks.compare.judge import Judge
from stochloc.tasks.compare.result import RESULT, Result, read_result
from stochloc.tasks.compare.table import Comparison, make_row
from stochloc.tasks.counting import characters_in

YARDSTICK = "ar"


def earlier_results(contest: Contest, folder: Path) -> list[Result]:
    """Return full trials of other methods that an earlier call left in the same folder.

    Args:
        contest: Its methods are left out, and trials of other settings.
        folder: Holds a folder for each trial.

    Returns:
        The results, lower seeds first; where a method has several learning rates, those of the
        rate whose validation bound is lowest.

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
    """Return the comparison that the results of full trials make.

    Args:
        contest: What was compared.
        corpus: On what.
        judge: Judges the corpus's own text too.
        results: Results of full trials, lower seeds first.

    Returns:
        The comparison, its rows ordered by bits per character.
    """
    finished: dict[str, list[Result]] = {}
    diverged: list[str] = []
    for result in results:
        method, seed = result["trial"]["method"], result["trial"]["training"]["seed"]
        if result["diverged"]:
            diverged.append(f"{method}, seed {seed}")
        else:
            finished.setdefault(method, []).append(result)
    yardstick = finished.get(YARDSTICK, [])
    costs = [result["cpu_seconds_per_update"] for result in yardstick]
    yardstick_s = sum(costs) / len(costs) if costs else math.nan
    rows = [make_row(own, yardstick_s) for own in finished.values()]
    # The judge has read the test part: its own text is judged by another.
    windows = held_out_windows(corpus.valid, contest.training.length, contest.scoring.windows)
    return Comparison(
        judge.score(windows),
        windows.numel() / int(characters_in(corpus.tokenizer, windows).sum()),
        contest.settings(),
        sorted(rows, key=lambda row: row.bits),
        [method for method in contest.methods if method not in finished],
        diverged,
    )
