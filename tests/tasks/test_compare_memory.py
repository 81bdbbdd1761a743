"""Comparisons on large vocabularies: what does not fit is told before the first trial."""

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from stochloc.data import NgramModel
from stochloc.methods import METHODS, TABLE_1, Frame, Method
from stochloc.nn import Backbone
from stochloc.tasks.compare import compare, judge, memory, workers
from stochloc.tasks.compare.budget import Budget
from stochloc.tasks.compare.judge import LARGEST_VOCABULARY, ORDER, make_judge
from stochloc.tasks.compare.memory import Need, check_memory, memory_for_each, texts_at_once
from stochloc.tasks.compare.trial import Scoring, Trial
from stochloc.tasks.compare.trial_run import TrialRun
from stochloc.tasks.data_choice import DataChoice
from stochloc.training.recipes import TrainingConfig

pytestmark = pytest.mark.bulk

VOCABULARY, LENGTH = 4000, 8
TINY = Backbone(width=16, depth=1, heads=2)
# Networks of these are those of others in the table, or their losses are taken in blocks.
BLOCKED = ("argmax-flow", "dsl", "dsl-paper")
WORDS = 300


def large_frame(size: int = 50_257, length: int = 128) -> Frame:
    return Frame(torch.ones(size, dtype=torch.long), length, Backbone(128, 4, 4))


def most_allocated(call) -> int:
    """The most bytes of tensors that are alive at one time within a call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    recorded: Any = profiler.profiler
    events = [e for e in recorded.kineto_results.events() if e.name() == "[memory]"]
    alive = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


def numbers_for_each_entry(name: str, what: Callable[[Method, Tensor, Any], None]) -> float:
    """How the peak of a call grows with the batch: float32 numbers for each place and token."""

    def peak(batch: int) -> int:
        torch.manual_seed(0)
        method = METHODS[name](Frame(torch.ones(VOCABULARY, dtype=torch.long), LENGTH, TINY))
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(VOCABULARY, (batch, LENGTH), generator=generator)
        return most_allocated(lambda: what(method, tokens, generator))

    return (peak(12) - peak(4)) / (4 * 8 * LENGTH * VOCABULARY)


def update(method: Method, tokens: Tensor, generator: torch.Generator) -> None:
    method.loss(tokens, generator).backward()


def draw(method: Method, tokens: Tensor, generator: torch.Generator) -> None:
    method.sample(len(tokens), LENGTH, 2, generator)


@pytest.mark.parametrize("name", [name for name in TABLE_1 if name not in BLOCKED])
def test_an_update_holds_as_many_numbers_as_its_method_says(name):
    held = METHODS[name](Frame(torch.ones(9, dtype=torch.long), LENGTH, TINY)).held
    # Hidden states, which do not grow with the vocabulary, are in the figure too.
    assert 0.9 * held <= numbers_for_each_entry(name, update) <= 1.05 * held


@pytest.mark.parametrize("name", TABLE_1)
def test_a_draw_holds_few_enough_numbers_for_the_texts_that_are_drawn_together(name):
    most = 4 * memory.MOST_NUMBERS * numbers_for_each_entry(name, draw)
    assert most <= 1.7e9


@pytest.mark.parametrize("name", METHODS)
def test_the_need_of_every_method_is_known_without_its_weights(name):
    frame = Frame(torch.ones(50, dtype=torch.long), LENGTH, TINY)
    method = METHODS[name](frame)
    parameters = sum(parameter.numel() for parameter in method.parameters())
    need = Need.of(name, frame)
    assert need.fixed == memory.PROCESS + 20 * parameters
    assert need.per_window == pytest.approx(4 * method.held * LENGTH * 50)


def test_updates_that_do_not_fit_are_refused_and_the_batch_that_is_named_fits():
    frame, methods = large_frame(), ("mdlm", "d3pm-uniform", "sedd-uniform", "dsl")
    with pytest.raises(ValueError, match="d3pm-uniform, sedd-uniform on 32") as refused:
        check_memory(methods, frame, 32, 8e9)
    assert "50,257" in str(refused.value)
    assert "--batch-size 10 or less" in str(refused.value)
    check_memory(methods, frame, 10, 8e9)
    with pytest.raises(ValueError, match=r"of d3pm-uniform on 11 .* leave it out"):
        check_memory(methods, frame, 11, 8e9)
    with pytest.raises(ValueError, match="shorter --length"):
        check_memory(methods, frame, 1, 1e9)


def test_ours_and_small_vocabularies_are_never_refused():
    check_memory(("dsl", "dsl-paper", "argmax-flow"), large_frame(), 32, 1e6)
    check_memory(METHODS, large_frame(size=256), 32, 4e9)


def test_several_jobs_share_the_memory_of_the_machine(monkeypatch):
    monkeypatch.setattr(memory, "_process_limit", lambda: float("inf"))
    cpu = torch.device("cpu")
    assert memory_for_each(cpu, 4) == pytest.approx(memory_for_each(cpu, 1) / 4)
    monkeypatch.setattr(memory, "_process_limit", lambda: 7.0)
    assert memory_for_each(cpu, 4) == 7.0


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("".join(f"w{n % WORDS} " for n in range(0, 7 * 4000, 7)), encoding="utf-8")
    return path


def command(text, out, *methods):
    return (
        "compare", "--data", text, "--tokenizer", "words", "--out", out, "--length", "8",
        "--methods", ",".join(methods), "--budget", "updates=2", "--accelerator", "cpu",
        "--batch-size", "4", "--width", "16", "--depth", "1", "--heads", "2", "--windows", "4",
        "--samples", "2", "--texts", "3", "--steps", "2", "--grid", "1e-3",
    )  # fmt: skip


def test_a_comparison_is_refused_before_its_first_trial(text, tmp_path, refuse, monkeypatch):
    parameters = 2 * WORDS * 16
    monkeypatch.setattr(
        compare, "memory_for_each", lambda device, jobs: memory.PROCESS + 100 * parameters
    )
    sentence = refuse(*command(text, tmp_path / "out", "mdlm", "d3pm-uniform"))
    assert "An update of d3pm-uniform on 4 windows" in sentence
    assert not list((tmp_path / "out" / "trials").iterdir())


def test_methods_whose_trials_are_done_need_no_memory(text, tmp_path, call, monkeypatch):
    monkeypatch.setattr("stochloc.cli.compare.find_spec", lambda name: None)  # No figures.
    arguments = command(text, tmp_path / "out", "ar")
    done = call(*arguments).out
    monkeypatch.setattr(compare, "memory_for_each", lambda device, jobs: 1.0)
    assert call(*arguments).out == done


def test_a_vocabulary_that_the_judge_cannot_count_is_named_with_what_it_can(text, monkeypatch):
    assert LARGEST_VOCABULARY**ORDER < 2**63 <= (LARGEST_VOCABULARY + 1) ** ORDER
    few = torch.arange(9).numpy()
    assert NgramModel.fit(few, ORDER, LARGEST_VOCABULARY).order == ORDER
    monkeypatch.setattr(judge, "LARGEST_VOCABULARY", WORDS - 1)
    with pytest.raises(ValueError, match=r"at most 299 tokens, and this tokenizer has 30\d"):
        make_judge(DataChoice(str(text)).load_text("words"))


def test_texts_are_drawn_together_as_far_as_memory_allows(text, tmp_path, monkeypatch):
    assert texts_at_once(128, 4096) == 64
    assert texts_at_once(128, 50_257) == 5
    assert texts_at_once(4096, 50_257) == 1
    training = TrainingConfig(LENGTH, 4, checkpoint_every=100)
    trial = Trial("ar", TINY, training, Budget("updates", 2.0), Scoring(4, 1, 4, 1, 5, (2,)))
    corpus = DataChoice(str(text)).load_text("words")
    judged = make_judge(corpus)
    run = TrialRun(trial, corpus, tmp_path, torch.device("cpu"))
    sizes, sample = [], run.method.sample

    def counted(rows, *others):
        sizes.append(rows)
        drawn = sample(rows, *others)
        return replace(drawn, denoiser_calls=drawn.denoiser_calls + rows)

    monkeypatch.setattr(run.method, "sample", counted)
    size = corpus.tokenizer.vocabulary_size
    monkeypatch.setattr(memory, "MOST_NUMBERS", 2 * LENGTH * size)
    (row,) = run.score(judged)["samples"]
    assert sizes == [2, 2, 1]
    assert row["denoiser_calls"] == LENGTH + 2


@dataclass
class KilledPool:
    """A pool whose processes the system kills."""

    jobs: int
    context: object = None
    begin: object = None
    arguments: tuple = ()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, *call):
        future: Future = Future()
        future.set_exception(BrokenProcessPool("A process was terminated abruptly"))
        return future


def test_a_process_that_the_system_kills_is_one_sentence(text, tmp_path, refuse, monkeypatch):
    monkeypatch.setattr(workers, "ProcessPoolExecutor", KilledPool)
    sentence = refuse(*command(text, tmp_path / "out", "ar"), "--jobs", "2")
    assert "killed" in sentence
    assert "--batch-size" in sentence
