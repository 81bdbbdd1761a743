"""Every command reports as many denoiser calls as its model receives."""

import csv
import json
import shutil

import pytest

from stochloc.core import ExactDenoiser
from stochloc.nn import LocalizationModel, Network
from stochloc.nn.reading import ModelReader
from stochloc.tasks.compare.trial_run import TrialRun
from stochloc.tasks.cyclic import CyclicExperiment

pytestmark = pytest.mark.bulk

LINES = "the dog\nthe fox runs\na lazy cow\n"
COMMANDS = {
    "eval": ("eval", "RUN", "--sequences", 3, "--steps", 5),
    "eval, line integral": ("eval", "RUN", "--sequences", 3, "--steps", 5, "--continuous"),
    "eval, curvature": ("eval", "RUN", "--sequences", 3, "--steps", 5, "--policy", "curvature"),
    "eval, tolerance": ("eval", "RUN", "--sequences", 3, "--policy", "tolerance:0.3"),
    "sample": ("sample", "RUN", "--n", 3, "--steps", 5),
    "sample, euler": ("sample", "RUN", "--n", 2, "--steps", 5, "--path", "hybrid",
                      "--transition", "euler"),
    "sample, left to right": ("sample", "RUN", "--n", 2, "--length", 7, "--steps", 7, "--path",
                              "autoregressive"),
    "sample, left to right, guidance": ("sample", "RUN", "--n", 2, "--length", 7, "--steps", 9,
                                        "--path", "autoregressive", "--prompt", "the ",
                                        "--guidance", 2),
    "infill, left to right": ("infill", "RUN", "the _uick br_wn", "--draws", 5, "--steps", 2,
                              "--path", "autoregressive"),
    "sample, curvature": ("sample", "RUN", "--n", 2, "--steps", 4, "--policy", "curvature:0.3"),
    "sample, remasking": ("sample", "RUN", "--n", 2, "--steps", 6, "--policy", "remdm-loop"),
    "sample, correctors": ("sample", "RUN", "--n", 2, "--steps", 4, "--corrector-rounds", 2),
    "sample, guidance": ("sample", "RUN", "--n", 2, "--steps", 4, "--prompt", "the ",
                         "--guidance", 2),
    "infill": ("infill", "RUN", "the _uick br_wn", "--draws", 5, "--steps", 2),
    "infill, lengths": ("infill", "RUN", "the {1-2}ck", "--draws", 5),
    "score": ("score", "RUN", "LINES", "--steps", 4),
    "score, draws": ("score", "RUN", "LINES", "--steps", 4, "--draws", 3),
    "correct": ("correct", "RUN", "the quikc brown fox jumps", "--snr", 3, "--threshold", 0.2),
    "correct, walk": ("correct", "RUN", "the quikc brown", "--snr", 3, "--threshold", 0.2,
                      "--walk"),
    "tune": ("tune", "RUN", "--sequences", 2),
}  # fmt: skip
# Walks from left to right, a token a step, ask about one place at a time; others may by chance.
READING = {name for name in COMMANDS if "left to right" in name}


def counted(kind: type, monkeypatch: pytest.MonkeyPatch, method: str = "forward") -> list[object]:
    """Return a list that grows by every call of an object of a kind."""
    calls, answer = [], getattr(kind, method)

    def counting(asked, *arguments):
        calls.append(asked)
        return answer(asked, *arguments)

    monkeypatch.setattr(kind, method, counting)
    return calls


def counted_readouts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that grows by every answer of a model: of a state, two sides or a place."""
    return counted(LocalizationModel, monkeypatch, "_readout")


@pytest.mark.parametrize("name", COMMANDS)
def test_reported_calls_are_the_calls_that_the_model_receives(
    name, trained, tmp_path, call_json, monkeypatch
):
    monkeypatch.setattr("stochloc.tasks.tune.KNOWN_SHARES", 3)
    monkeypatch.setattr("stochloc.tasks.tune.SNR_LEVELS", (0, 1, 4))
    (tmp_path / "lines.txt").write_text(LINES, encoding="utf-8")
    # A copy: some commands keep what they measured in the run, which others share.
    shutil.copytree(trained / "run", tmp_path / "run")
    places = {"RUN": tmp_path / "run", "LINES": tmp_path / "lines.txt"}
    calls, read = counted_readouts(monkeypatch), counted(ModelReader, monkeypatch, "next")
    result = call_json(*(places.get(word, word) for word in COMMANDS[name]))
    assert result["denoiser_calls"] == len(calls) > 0
    assert read or name not in READING


def test_the_calls_of_the_figure_of_steps_are_those_that_the_model_receives(
    trained, tmp_path, call, monkeypatch
):
    calls = counted_readouts(monkeypatch)
    call("plot", "steps", trained / "run", "--out", tmp_path, "--sequences", 2, "--counts", 2, 5,
         "--paths", "masked", "diffusion")  # fmt: skip
    with (tmp_path / "steps.csv").open(encoding="utf-8", newline="") as file:
        reported = [int(row["denoiser_calls"]) for row in csv.DictReader(file)]
    assert len(reported) == 8
    assert sum(reported) == len(calls)


def test_the_calls_of_every_cyclic_estimate_are_those_that_the_denoiser_receives(
    call_json, monkeypatch
):
    calls, answer = [], ExactDenoiser.__call__

    def counting(denoiser, state):
        calls.append(denoiser)
        return answer(denoiser, state)

    monkeypatch.setattr(ExactDenoiser, "__call__", counting)
    monkeypatch.setattr("stochloc.tasks.cyclic.STEPS", (1, 8))
    monkeypatch.setattr("stochloc.tasks.cyclic.LINE_INTEGRAL_SAMPLES", 4)
    # The other parts of the experiment report no calls.
    monkeypatch.setattr(CyclicExperiment, "_valid", lambda *_: {})
    monkeypatch.setattr(CyclicExperiment, "_recovery", lambda *_: {})
    rows = call_json("cyclic", "--size", 4, "--sequences", 5)["likelihood"]
    assert len(rows) > 10
    assert sum(row["denoiser_calls"] for row in rows) == len(calls)


@pytest.mark.parametrize(
    ("method", "kind"), [("dsl", LocalizationModel), ("mdlm", Network), ("sedd-absorbing", Network)]
)
def test_the_calls_of_a_trial_are_those_that_the_methods_network_receives(
    method, kind, trained, tmp_path, call, monkeypatch
):
    calls, during, score = counted(kind, monkeypatch), [], TrialRun.score

    def scored(run, judge):
        before = len(calls)
        result = score(run, judge)
        during.append(len(calls) - before)
        return result

    monkeypatch.setattr(TrialRun, "score", scored)
    call("compare", "--data", trained / "text.txt", "--out", tmp_path, "--methods", method,
         "--budget", "updates=2", "--grid", "1e-3", "--length", 8, "--batch-size", 4, "--width", 16,
         "--depth", 1, "--heads", 2, "--windows", 4, "--samples", 2, "--texts", 3, "--steps", 2, 4,
         "--accelerator", "cpu")  # fmt: skip
    (line,) = (tmp_path / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    trial = json.loads(line)
    reported = [trial["denoiser_calls"], *(drawn["denoiser_calls"] for drawn in trial["samples"])]
    assert during == [sum(reported)]
    assert min(reported) > 0
