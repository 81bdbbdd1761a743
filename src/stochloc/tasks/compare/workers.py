"""Running the trials of a contest, in this process or in several at a time."""

import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path

import torch

from stochloc.tasks.compare.agenda import Agenda
from stochloc.tasks.compare.archive import check_same_text
from stochloc.tasks.compare.judge import make_judge
from stochloc.tasks.compare.result import Result
from stochloc.tasks.compare.run_trial import run_trial
from stochloc.tasks.compare.trial import Trial
from stochloc.tasks.data_choice import DataChoice
from stochloc.terminal import tell
from stochloc.training.interruption import Interruption, Stopped


def run_here(
    agenda: Agenda, choice: DataChoice, folder: Path, device: str
) -> Iterator[tuple[Trial, Result]]:
    """Run all open trials, one after the other.

    Args:
        agenda: The trials; all results are entered, also those already in the folder.
        choice: The text and its split.
        folder: Holds a folder for each trial.
        device: Where to compute.

    Yields:
        Every trial that was run, with its result.
    """
    while (trial := agenda.next_unfinished(folder)) is not None:
        result = _run(trial, choice, agenda.contest.tokenizer, folder / trial.name, device)
        agenda.finish(trial, result)
        yield trial, result


def run_in_processes(
    agenda: Agenda, choice: DataChoice, folder: Path, device: str, jobs: int
) -> Iterator[tuple[Trial, Result]]:
    """Run all open trials, several at a time, each in a process.

    Args:
        agenda: The trials; all results are entered, also those already in the folder.
        choice: The text and its split, in files that every process can read.
        folder: Holds a folder for each trial.
        device: Where to compute.
        jobs: Number of processes, each with its share of the cores.

    Yields:
        Every trial that was run, with its result, in the order in which they finish.

    Raises:
        Stopped: A signal interrupted it; each trial has saved its state.
        ValueError: The system killed a process.
    """
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
                try:
                    result = future.result()
                except BrokenProcessPool:
                    # Nobody asked it to stop: a system that is out of memory does so.
                    raise ValueError(
                        "A process of a trial was killed, as systems do when they run out of "
                        "memory; give fewer --jobs or a smaller --batch-size, and the same "
                        "command continues it."
                    ) from None
                agenda.finish(trial, result)
                yield trial, result


def _run(
    trial: Trial, choice: DataChoice, tokenizer: str | None, folder: Path, device: str
) -> Result:
    corpus = choice.load_text(tokenizer)
    check_same_text(corpus, folder.parent.parent)
    return run_trial(trial, corpus, make_judge(corpus), folder, torch.device(device), tell)
