"""Table 1 in one run: every method on the same backbone, text, optimiser, budget and evaluation.

For each method a small grid of learning rates is tried with a share of the budget and judged by the
bound on validation text; with the best one the method is trained in full from each seed, scored on
test text and sampled. Trials are independent and remember themselves, so a comparison may be cut
off, continued, or extended by methods and seeds in the same folder. Methods are taken in the order
they are named, and all of them from the first seed before any from the second.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch

from stochloc.data import Corpus, held_out_windows
from stochloc.methods import METHODS, TABLE_1
from stochloc.nn import Backbone
from stochloc.tasks.compare.archive import TEXT, take_trials, write_trials
from stochloc.tasks.compare.judge import Judge
from stochloc.tasks.compare.table import Comparison, Result, make_row
from stochloc.tasks.compare.trial import RESULT, Budget, Scoring, Trial, read_result, run_trial
from stochloc.tasks.counting import characters_in
from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.own_text import in_files
from stochloc.tasks.runs import RECIPE
from stochloc.tasks.train import check_windows
from stochloc.terminal import tell
from stochloc.training.checkpoint import replacing
from stochloc.training.exclusive import exclusive
from stochloc.training.interruption import Interruption, Stopped
from stochloc.training.recipes import TrainingConfig

YARDSTICK = "ar"


@dataclass(frozen=True)
class Contest:
    """What is compared and how.

    Attributes:
        choice: Which text, and how it is split.
        tokenizer: How it becomes tokens; None for the corpus's default.
        methods: Names of `methods.METHODS`.
        budget: How long each method trains.
        num_seeds: Full trials of each method, from seed 0 up.
        grid: Learning rates to choose from.
        short_share: Share of the budget that a trial of the grid gets, in (0, 1].
        backbone: The transformer of all methods.
        training: Length, batch and the rest, the same for all.
        scoring: How all are measured.
        half_products: Whether updates multiply the transformer's matrices in bfloat16.
    """

    choice: DataChoice
    tokenizer: str | None
    methods: tuple[str, ...]
    budget: Budget
    num_seeds: int = 1
    grid: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    short_share: float = 1.0
    backbone: Backbone = field(default_factory=Backbone)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    scoring: Scoring = field(default_factory=Scoring)
    half_products: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.methods, str):
            raise ValueError(f"Methods are a tuple of names: parse_methods({self.methods!r}).")
        if self.num_seeds < 1:
            raise ValueError(f"A comparison needs at least one seed, not {self.num_seeds}.")
        if not 0 < self.short_share <= 1:
            raise ValueError(f"The share of short trials lies in (0, 1], not {self.short_share}.")
        if not self.grid or not all(0 < rate < math.inf for rate in self.grid):
            raise ValueError("A comparison needs learning rates, all of them positive.")
        if len(set(self.grid)) < len(self.grid):
            raise ValueError("A learning rate is given twice.")

    def grid_trials(self, method: str) -> list[Trial]:
        """Return the trials that choose a method's learning rate.

        Args:
            method: Name of the method.

        Returns:
            A trial for each rate, short ones unless they get the whole budget: then they are the
            full trials of the first seed. None if there is no choice.
        """
        if len(self.grid) == 1:
            return []
        trials = [self._trial(method, rate, 0) for rate in self.grid]
        if self.short_share == 1:
            return trials
        budget = replace(self.budget, amount=self.budget.amount * self.short_share)
        return [replace(trial, budget=budget, is_short=True) for trial in trials]

    def full_trials(self, method: str, rate: float) -> list[Trial]:
        """Return a method's trials in full.

        Args:
            method: Name of the method.
            rate: Its learning rate.

        Returns:
            A trial for each seed.
        """
        return [self._trial(method, rate, seed) for seed in range(self.num_seeds)]

    def settings(self) -> dict[str, Any]:
        """Return what all trials share, as JSON values."""
        shared = self._trial(self.methods[0], self.grid[0], 0).to_dict()
        own = ("method", "is_short")
        for name in ("learning_rate", "seed"):
            del shared["training"][name]
        return {
            "data": self.choice.data,
            "tokenizer": self.tokenizer,
            "grid": list(self.grid),
            **{key: value for key, value in shared.items() if key not in own},
        }

    def _trial(self, method: str, rate: float, seed: int) -> Trial:
        training = replace(self.training, learning_rate=rate, seed=seed)
        trial = Trial(method, self.backbone, training, self.budget, self.scoring)
        return replace(trial, half_products=self.half_products)


def parse_methods(text: str) -> tuple[str, ...]:
    """Return the methods that a list of names, or `all`, means.

    Args:
        text: Names separated by commas; "all" for the methods of Table 1.

    Returns:
        Names, each once.

    Raises:
        ValueError: There is no such method.
    """
    names: dict[str, None] = {}
    for name in (part.strip() for part in text.split(",")):
        names |= dict.fromkeys(TABLE_1 if name == "all" else (name,))
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise ValueError(
            f"There is no method {unknown[0]!r}; the methods are all, {', '.join(METHODS)}."
        )
    return tuple(names)


def compare(
    contest: Contest,
    folder: Path,
    jobs: int = 1,
    device: str = "cpu",
    say: Callable[[str], None] = print,
    source: Path | None = None,
) -> Comparison:
    """Run what is missing of a contest and return its results.

    Args:
        contest: What to compare.
        folder: Where trials are kept and the results are written, after each full trial.
        jobs: Trials at a time, each a process with its share of the cores.
        device: Where to compute.
        say: Tells a person how far it is.
        source: The `trials.jsonl` of an earlier comparison, or its folder, whose trials count as
            finished; None for none.

    Returns:
        The results.

    Raises:
        ValueError: The text is too short, a setting is out of range, the folder holds another
            contest or a training run, or every method diverged.
        OSError: The disk is full; finished trials are kept.
        Stopped: A signal asked for it; what trials have done is saved.
    """
    if jobs < 1:
        raise ValueError(f"Trials run one at a time or more, not {jobs}.")
    with in_files(contest.choice) as choice:
        return _compare(contest, choice, folder, jobs, device, say, source)


def _compare(
    contest: Contest,
    choice: DataChoice,
    folder: Path,
    jobs: int,
    device: str,
    say: Callable[[str], None],
    source: Path | None,
) -> Comparison:
    """Compare on texts that every process can read."""
    corpus = choice.load(contest.tokenizer)
    if corpus.tokenizer.labels:
        raise ValueError("Methods are compared on a text without classes; name one file as --data.")
    if contest.choice.test is None and contest.choice.fractions[2] == 0:
        raise ValueError("A comparison needs a test part: give --test, or --fractions with three.")
    length = contest.training.length
    # Two windows at least, or there are no standard errors.
    check_windows(corpus, train=length, valid=2 * length, test=2 * length)
    if (folder / RECIPE).exists():
        raise ValueError(f"{folder} holds a training run: choose another --out.")
    agenda, trials = Agenda(contest), folder / "trials"
    trials.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        check_same_text(corpus, folder)
        if source is not None:
            take_trials(source, folder)
        judge = make_judge(corpus)
        finished = (
            _run_here(agenda, choice, trials, device)
            if jobs == 1
            else _run_in_processes(agenda, choice, trials, device, jobs)
        )
        for trial, result in finished:
            rate, seed = trial.training.learning_rate, trial.training.seed
            say(
                f"[{agenda.num_done}/{agenda.num_trials}] {trial.method}, learning rate {rate:g}, "
                f"seed {seed}: {_figure(result)}"
            )
            while agenda.news:
                say(agenda.news.pop(0))
            results = agenda.full_results() + earlier_results(contest, trials)
            comparison = summarise(contest, corpus, judge, results)
            # No method has a figure before its learning rate is chosen.
            if comparison.rows and not trial.is_short:
                comparison.write(folder)
        results = agenda.full_results() + earlier_results(contest, trials)
        comparison = summarise(contest, corpus, judge, results)
        if not comparison.rows:
            raise ValueError(
                "Training of every method diverged; give lower learning rates with --grid."
            )
        comparison.write(folder)
        write_trials(folder)
        return comparison


class Agenda:
    """Which trials of a contest come next: a method's full trials wait for its learning rate.

    Args:
        contest: What is compared.

    Attributes:
        news: Which learning rates were chosen, in sentences; whoever tells them takes them out.
    """

    def __init__(self, contest: Contest) -> None:
        self.contest = contest
        self.results: dict[str, Result] = {}
        self.grid = {method: contest.grid_trials(method) for method in contest.methods}
        self.full: dict[str, list[Trial]] = {}
        self.ready = [trial for trials in self.grid.values() for trial in trials]
        self.news: list[str] = []
        for method, trials in self.grid.items():
            if not trials:
                self._enter(method, contest.grid[0])

    @property
    def num_trials(self) -> int:
        """Number of trials in all; where no learning rate is chosen yet, all seeds are counted."""
        settled = [t for trials in (*self.grid.values(), *self.full.values()) for t in trials]
        undecided = sum(not self._is_tried(method) for method in self.contest.methods)
        grid_has_first_seed = self.contest.short_share == 1
        to_come = undecided * (self.contest.num_seeds - grid_has_first_seed)
        return len({trial.name for trial in settled}) + to_come

    @property
    def num_done(self) -> int:
        """Number of trials with a result."""
        return len(self.results)

    def next(self) -> Trial | None:
        """Return a trial to begin, None if there is none at the moment."""
        if not self.ready:
            return None
        order = self.contest.methods.index
        first = min(self.ready, key=lambda t: (t.training.seed, order(t.method), not t.is_short))
        self.ready.remove(first)
        return first

    def next_unfinished(self, folder: Path) -> Trial | None:
        """Return a trial to run, having entered those that are finished.

        Args:
            folder: Holds a folder for each trial.

        Returns:
            The trial; None if there is none at the moment.

        Raises:
            ValueError: A result in the folder is damaged or of other settings.
        """
        while (trial := self.next()) is not None:
            done = trial.result(folder / trial.name)
            if done is None:
                return trial
            self.finish(trial, done)
        return None

    def finish(self, trial: Trial, result: Result) -> None:
        """Enter the result of a trial.

        Args:
            trial: One that `next` returned.
            result: Its result.
        """
        self.results[trial.name] = result
        method = trial.method
        if method not in self.full and self._is_tried(method):
            rate = choose_rate([self.results[other.name] for other in self.grid[method]])
            if rate is not None:
                self.news.append(_choice(method, rate, self.contest.grid))
                self._enter(method, rate)

    def full_results(self) -> list[Result]:
        """Return the results of full trials there are, lower seeds first."""
        trials = sorted(
            (trial for own in self.full.values() for trial in own), key=lambda t: t.training.seed
        )
        return [self.results[trial.name] for trial in trials if trial.name in self.results]

    def _is_tried(self, method: str) -> bool:
        return all(trial.name in self.results for trial in self.grid[method])

    def _enter(self, method: str, rate: float) -> None:
        self.full[method] = self.contest.full_trials(method, rate)
        self.ready += [trial for trial in self.full[method] if trial.name not in self.results]


def _choice(method: str, rate: float, grid: Sequence[float]) -> str:
    edges = {min(grid): ", the lowest tried", max(grid): ", the highest tried"}
    return f"{method}: learning rate {rate:g} is best on validation text{edges.get(rate, '')}."


def choose_rate(results: Sequence[Result]) -> float | None:
    """Return the learning rate with the lowest bound on validation text.

    Args:
        results: Results of short trials of one method.

    Returns:
        The rate; None if training diverged at each.
    """
    finite = [result for result in results if not result["diverged"]]
    if not finite:
        return None
    best = min(finite, key=lambda result: result["curve"][-1]["bits_per_token"])
    return best["trial"]["training"]["learning_rate"]


def check_same_text(corpus: Corpus, folder: Path) -> None:
    """Note which tokens a folder's trials are about, and refuse it for others.

    Args:
        corpus: The tokens.
        folder: The comparison's folder, which exists.

    Raises:
        ValueError: The folder's trials are about other tokens, or its note is damaged.
    """
    path, note = folder / TEXT, corpus.fingerprint()
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(note, indent=2), encoding="utf-8")
        return
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another --out.") from error
    if kept != note:
        raise ValueError(f"{folder} holds a comparison on another text: choose another --out.")


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


def make_judge(corpus: Corpus) -> Judge:
    """Return the judge that has read a corpus's test text."""
    return Judge.of(corpus.test, corpus.tokenizer.vocabulary_size)


def _run_here(
    agenda: Agenda, choice: DataChoice, folder: Path, device: str
) -> Iterator[tuple[Trial, Result]]:
    while (trial := agenda.next_unfinished(folder)) is not None:
        result = _run(trial, choice, agenda.contest.tokenizer, folder / trial.name, device)
        agenda.finish(trial, result)
        yield trial, result


def _run_in_processes(
    agenda: Agenda, choice: DataChoice, folder: Path, device: str, jobs: int
) -> Iterator[tuple[Trial, Result]]:
    contest, threads = agenda.contest, max(1, (os.cpu_count() or 1) // jobs)
    running: dict[Future[Result], Trial] = {}
    with (
        Interruption() as interruption,
        # A fresh interpreter for each: torch's threads do not survive a fork.
        ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool,
    ):
        while True:
            while len(running) < jobs:
                trial = agenda.next_unfinished(folder)
                if trial is None:
                    break
                place = folder / trial.name
                future = pool.submit(_run, trial, choice, contest.tokenizer, place, device)
                running[future] = trial
            if not running:
                return
            try:
                with interruption.at_once():
                    finished = wait(running, return_when=FIRST_COMPLETED).done
            except Stopped:
                # Each saves what it has done; the pool's end waits for that.
                for process in active_children():
                    process.terminate()
                raise
            for future in finished:
                trial = running.pop(future)
                agenda.finish(trial, future.result())
                yield trial, future.result()


def _run(
    trial: Trial, choice: DataChoice, tokenizer: str | None, folder: Path, device: str
) -> Result:
    corpus = choice.load(tokenizer)
    check_same_text(corpus, folder.parent.parent)
    return run_trial(trial, corpus, make_judge(corpus), folder, torch.device(device), tell)


def _figure(result: Result) -> str:
    if result["diverged"]:
        return "diverged"
    valid = f"{result['curve'][-1]['bits_per_token']:.3f} bits per token of validation text"
    if result["trial"]["is_short"]:
        return valid
    spread = f"{result['bits_per_character']:.3f} ± {result['stderr']:.3f}"
    return f"{spread} bits per character of test text, {valid}, {result['seconds']:.0f} s"
