"""The order in which the trials of a contest are run.

Methods are taken in the order they are named, and all of them from the first seed before any from
the second; a method's full trials wait until its grid trials have chosen a learning rate.
"""

from collections.abc import Sequence
from pathlib import Path

from stochloc.tasks.compare.contest import Contest
from stochloc.tasks.compare.result import RESULT, Result
from stochloc.tasks.compare.trial import Trial


class Agenda:
    """The open and finished trials of a contest.

    Args:
        contest: The methods and settings that are compared.

    Attributes:
        news: Messages about chosen learning rates and about trials of an earlier revision; the
            caller removes those it has printed.
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
        """Total number of trials; it includes all seeds of methods without a learning rate yet."""
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
        """Return the next trial to run; None if there is none at the moment."""
        if not self.ready:
            return None
        order = self.contest.methods.index
        first = min(self.ready, key=lambda t: (t.training.seed, order(t.method), not t.is_short))
        self.ready.remove(first)
        return first

    def next_unfinished(self, folder: Path) -> Trial | None:
        """Return the next trial without a result, entering the results found in the folder.

        Args:
            folder: Holds a folder for each trial.

        Returns:
            The trial; None if there is none at the moment.

        Raises:
            ValueError: A result in the folder is damaged or has other settings.
        """
        while (trial := self.next()) is not None:
            place = folder / trial.name
            done = trial.result(place)
            if done is not None:
                self.finish(trial, done)
                continue
            if (place / RESULT).exists():
                self.news.append(
                    f"{trial.name}: the method has changed since this trial; it is run again."
                )
            return trial
        return None

    def unfinished(self, folder: Path) -> list[str]:
        """Return the methods that have trials to run, as far as is known at the start.

        Args:
            folder: Holds a folder for each trial.

        Returns:
            Their names, in the order of the contest.
        """
        open_ = {trial.method for trial in self.ready if trial.result(folder / trial.name) is None}
        return [method for method in self.contest.methods if method in open_]

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
        """Return the results of all finished full trials, lower seeds first."""
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
        The rate; None if training diverged at every rate.
    """
    finite = [result for result in results if not result["diverged"]]
    if not finite:
        return None
    best = min(finite, key=lambda result: result["curve"][-1]["bits_per_token"])
    return best["trial"]["training"]["learning_rate"]
