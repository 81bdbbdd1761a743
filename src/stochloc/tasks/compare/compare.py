"""Table 1 in one run: every method on the same backbone, text, optimiser, budget and evaluation.

For each method a small grid of learning rates is tried with a share of the budget; the rate with
the lowest bound on validation text is chosen. With it the method is trained in full from each seed,
scored on test text and sampled. Trials are independent and each saves its own state, so a
comparison can be interrupted, continued, or extended by methods and seeds in the same folder.

    contest -> agenda of trials -> workers, each a trial_run -> results -> summary -> table
"""

from collections.abc import Callable
from pathlib import Path

import torch

from stochloc.tasks.compare.agenda import Agenda
from stochloc.tasks.compare.archive import check_same_text, take_trials, write_trials
from stochloc.tasks.compare.contest import Contest
from stochloc.tasks.compare.judge import make_judge
from stochloc.tasks.compare.memory import check_memory, memory_for_each
from stochloc.tasks.compare.result import Result
from stochloc.tasks.compare.summary import earlier_results, summarise
from stochloc.tasks.compare.table import Comparison
from stochloc.tasks.compare.trial_run import frame_of
from stochloc.tasks.compare.workers import run_here, run_in_processes
from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.own_text import in_files
from stochloc.tasks.runs import RECIPE
from stochloc.tasks.text_sizes import check_windows
from stochloc.training.exclusive import exclusive


def compare(
    contest: Contest,
    folder: Path,
    jobs: int = 1,
    device: str = "cpu",
    say: Callable[[str], None] = print,
    source: Path | None = None,
) -> Comparison:
    """Run the unfinished trials of a contest and return its results.

    Args:
        contest: The methods and settings to compare.
        folder: Where trials are stored, and the results after each full trial.
        jobs: Number of trials at a time, each a process with its share of the cores.
        device: Where to compute.
        say: Receives progress messages.
        source: The `trials.jsonl` of an earlier comparison, or its folder, whose trials are
            treated as finished; None for none.

    Returns:
        The results.

    Raises:
        ValueError: The text is too short, a setting is out of range, the folder holds another
            contest or a training run, an update of a method does not fit into memory, or every
            method diverged.
        OSError: The disk is full; finished trials are kept.
        Stopped: A signal interrupted it; the state of running trials is saved.
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
    """Run a comparison on texts in files that every process can read."""
    corpus = choice.load_text(contest.tokenizer)
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
        frame = frame_of(corpus, length, contest.backbone)
        memory = memory_for_each(torch.device(device), jobs)
        check_memory(agenda.unfinished(trials), frame, contest.training.batch_size, memory)
        finished = (
            run_here(agenda, choice, trials, device)
            if jobs == 1
            else run_in_processes(agenda, choice, trials, device, jobs)
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
            # A method has no result before its learning rate is chosen.
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


def _figure(result: Result) -> str:
    if result["diverged"]:
        return "diverged"
    valid = f"{result['curve'][-1]['bits_per_token']:.3f} bits per token of validation text"
    if result["trial"]["is_short"]:
        return valid
    spread = f"{result['bits_per_character']:.3f} ± {result['stderr']:.3f}"
    return f"{spread} bits per character of test text, {valid}, {result['seconds']:.0f} s"
