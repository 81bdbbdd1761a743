"""Every flag of every command is looked at, or refused: none is taken and ignored.

The work of each command is replaced by something that notes what it was told to do. What a command
does is then that note, what it prints and what it writes. A flag has an effect if that changes, a
refusal included.
"""

import dataclasses
import re
import shutil
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from types import FunctionType, MethodType, SimpleNamespace

import numpy as np
import pytest
import torch

from stochloc.cli import main
from stochloc.cli.commands import COMMANDS
from stochloc.tasks.by_record import Done
from stochloc.tasks.cyclic import CyclicExperiment
from stochloc.tasks.infill.fill import Infilled
from stochloc.tasks.runs import Run

SWITCH = ()


def without(flags, name):
    return {flag: value for flag, value in flags.items() if flag != name}


READING = {"--field": "text", "--hf-split": "test"}
RECIPE = {
    "--seed": 3, "--length": 9, "--batch-size": 2, "--learning-rate": 0.1, "--warmup-steps": 7,
    "--optimizer": "adamw",
    "--weight-decay": 0.3, "--ema-decay": 0.5, "--width": 32, "--depth": 3, "--heads": 1,
    "--eval-every": 3, "--checkpoint-every": 3, "--architecture": "dit", "--steps": 5,
    "--preset": "small", "--tokenizer": "bytes", "--slots": SWITCH, "--sequences": SWITCH,
    "--valid": "OTHER",
    "--test": "OTHER", "--fractions": (0.8, 0.1, 0.1), "--accelerator": "cuda", "--devices": 2,
    "--strategy": "fsdp", "--precision": "bf16-mixed", "--resume": SWITCH, "--dry-run": SWITCH,
    "--out": "NEW", "--data": "OTHER", "--positions": "learned", "--weights": 2, **READING,
    "--from": "RUN", "--freeze": "head", "--law": "masks", "--patience": 2, "--accumulate": 2,
    "--checkpoint-activations": SWITCH, "--compile": SWITCH, "--logger": "tensorboard",
    "--code-dimension": 8, "--mask-lead": 3,
    "--num-nodes": 2,
}  # fmt: skip
SHARED = {"--checkpoint": "last", "--accelerator": "cuda"}
WALK = {
    "--path": "block", "--policy": "entropy", "--transition": "euler", "--steps": 5,
}  # fmt: skip
ROUNDS = {"--corrector-rounds": 2, "--corrector-share": 0.3, "--corrector-snr": 0.2}
# A value of every flag, other than its default.
FLAGS = {
    "quickstart": {"--out": "NEW", "--seed": 3, "--json": SWITCH},
    "train": RECIPE,
    "eval": {
        **SHARED, **WALK, **ROUNDS, "--data": "OTHER", "--split": "train", "--continuous": SWITCH,
        "--sequences": 2, "--orders": 1, "--label": "A", "--seed": 3, "--json": SWITCH, **READING,
    },
    "sample": {
        **SHARED, **WALK, **ROUNDS, "--n": 2, "--length": 5, "--corrector": "together",
        "--speculate": SWITCH, "--temperature": 0.5, "--top-p": 0.5, "--prompt": "the",
        "--label": "A", "--guidance": 2, "--seed": 3, "--trace": SWITCH, "--json": SWITCH,
    },
    "infill": {
        **SHARED, **WALK, "--n": 2, "--draws": 2, "--constraint": "aeiou", "--blank": "h",
        "--temperature": 0.5, "--top-p": 0.5, "--seed": 3, "--json": SWITCH,
        "--all-different": SWITCH, "--file": "OTHER", "--out": "RESULTS", "--shard": "2/3",
        "--label": "A", **READING,
    },
    "correct": {
        **SHARED, **without(WALK, "--transition"), "--file": "OTHER", "--out": "NEW",
        "--snr": 2, "--threshold": 0.7, "--confidences": "1,0,1", "--data": "OTHER",
        "--examples": "EXAMPLES", "--example-fields": ("ocr", "truth"),
        "--edits": SWITCH, "--one-pass": SWITCH, "--walk": SWITCH, "--seed": 3, "--json": SWITCH,
        "--shard": "2/3", "--label": "A", **READING,
    },
    "score": {
        **SHARED, **without(WALK, "--policy"), "--tokens": SWITCH, "--continuous": SWITCH,
        "--draws": 3, "--seed": 3, "--json": SWITCH, "--out": "RESULTS", "--shard": "2/3",
        "--label": "A", **READING,
    },
    "tune": {
        **SHARED, "--transition": "euler", "--sequences": 2, "--data": "OTHER", "--seed": 3,
        "--json": SWITCH,
    },
    "cyclic": {
        "--size": 4, "--sequences": 9, "--snr": 0.3, "--seed": 3, "--figures": "NEW",
        "--json": SWITCH,
    },
    "plot": {
        **SHARED, **WALK, "--out": "NEW", "--data": "OTHER", "--sequences": 3,
        "--paths": "masked", "--counts": 2, "--length": 5, "--size": 4, "--snr": 0.3, "--seed": 3,
        **READING,
    },
    "compare": {
        **{flag: RECIPE[flag] for flag in (
            "--out", "--data", "--tokenizer", "--valid", "--test", "--fractions", "--length",
            "--batch-size", "--width", "--depth", "--heads", "--precision", "--accelerator",
            *READING,
        )},
        "--from": "OTHER", "--methods": "mdlm", "--budget": "updates=2", "--seeds": 2,
        "--grid": (0.1, 0.2), "--short": 0.5, "--jobs": 2, "--windows": 3, "--samples": 2,
        "--texts": 3, "--steps": 2, "--focus": "mdlm", "--optimizer": "muon", "--json": SWITCH,
    },
    "import": {
        **{flag: RECIPE[flag] for flag in (
            "--out", "--data", "--tokenizer", "--valid", "--test", "--fractions", "--length",
            "--heads",
        )},
        "--json": SWITCH,
    },
    "demo": {
        **SHARED, "--port": 7999, "--host": "::1", "--token": "secret", "--no-open": SWITCH,
    },
    "export": {**SHARED, "--out": "NEW", "--json": SWITCH},
    "push": {
        "--private": SWITCH, "--license": "mit", "--figures": "OTHER", "--with-checkpoint": SWITCH,
        "--timeout": 5, "--dry-run": SWITCH, "--json": SWITCH,
    },
    "pull": {"--out": "NEW", "--revision": "v2", "--timeout": 5, "--json": SWITCH},
}  # fmt: skip
BASES = {
    "quickstart": ("--out", "OUT"), "train": ("--data", "TEXT", "--out", "OUT"),
    "eval": ("RUN",), "sample": ("RUN",), "infill": ("RUN", "t_e h_"), "correct": ("RUN", "teh"),
    "score": ("RUN", "LINES"), "tune": ("RUN",), "cyclic": (),
    "plot": ("all", "RUN", "--out", "OUT"), "compare": ("--data", "TEXT", "--out", "OUT"),
    "import": ("mdlm", "CHECKPOINT", "--data", "TEXT", "--out", "OUT"), "demo": ("RUN",),
    "export": ("RUN", "--out", "OUT"), "push": ("RUN", "owner/name"),
    "pull": ("owner/name", "--out", "OUT"),
}  # fmt: skip
BY_RECORD = ("RUN", "--file", "OTHER", "--out", "RESULTS")
OTHER_BASES = {
    ("correct", "--edits"): ("ENCODER", "teh"),
    ("correct", "--shard"): BY_RECORD, ("infill", "--shard"): BY_RECORD,
}  # fmt: skip
# What a flag needs to have an effect.
NEEDS = {
    **{("sample", flag): ("--corrector-rounds", 1)
       for flag in ("--corrector", "--corrector-share", "--corrector-snr")},
    ("sample", "--guidance"): ("--prompt", "the"),
    ("correct", "--path"): ("--walk", "--policy", "path"),
    ("correct", "--example-fields"): ("--examples", "EXAMPLES"),
    ("score", "--shard"): ("--out", "RESULTS"),
    **{("correct", flag): ("--walk",) for flag in ("--policy", "--steps", "--seed")},
}  # fmt: skip
# What changes nothing for a reason: command, what is there already, and what is added to it.
GRANTED = {
    # A trace is JSON, its result too.
    ("sample", "--trace", "--json"),
    # A dry run reads and checks the text, and writes nothing.
    *(("train", "--dry-run", flag) for flag in ("--valid", "--test", "--fractions", "--out")),
    # The text is for settings that were not measured yet; those of this run are kept.
    *(("correct", way, "--data") for way in ("--one-pass", "--walk")),
}


class Evaluated:
    """A result of which every figure is 1."""

    def to_dict(self):
        figures = (
            "bits_per_token", "bits_per_character", "nats_per_sequence", "stderr",
            "bits_per_character_stderr", "nats_per_sequence_stderr", "path", "sequences", "length",
            "counted", "estimator", "denoiser_calls",
        )  # fmt: skip
        return {**dict.fromkeys(figures, 1), "is_empty": False, "chain_rule": None}


class Compared:
    rows = (SimpleNamespace(method="mdlm"),)

    def to_dict(self):
        return {"rows": []}

    def table(self):
        return "table"


def described(value):
    """What a value says, without what differs between equal ones: where it lies in memory."""
    if isinstance(value, Run):
        return ("run", str(value.folder), value.checkpoint)
    if isinstance(value, (FunctionType, MethodType)):
        return value.__qualname__
    if isinstance(value, np.ndarray):
        return (len(value), value[:64].tolist())
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return (type(value).__name__, [(f.name, described(getattr(value, f.name))) for f in fields])
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


@pytest.fixture
def place(trained, encoder, tmp_path, monkeypatch):
    """What the words in capitals stand for; the work of the commands only notes what it is."""
    noted = []

    def noting(result):
        def note(*arguments, **named):
            noted.append((described(arguments), described(named)))
            return result

        return note

    scored = SimpleNamespace(
        to_dict=lambda tokens: {"tokens": tokens}, lines=(), notes=(), is_exact=True
    )
    corrected = SimpleNamespace(
        notes=(), content=b"the", text="the", changes=(), to_dict=lambda: {"text": "the"}
    )
    drawn = SimpleNamespace(
        samples=["the"], denoiser_calls=1, seconds=0.0, snr_received=[[0.0]], lengths=[1]
    )
    exported = SimpleNamespace(
        facts={"vocabulary_size": 3, "length": 4}, parameters=5, to_dict=lambda: {"out": "out"}
    )
    listed, pushed = (
        SimpleNamespace(files={"a": 1}, url=url, to_dict=lambda url=url: {"url": url})
        for url in (None, "here")
    )
    pulled = SimpleNamespace(
        files={"a": 1}, name="name", revision="main", to_dict=lambda: {"out": "out"}
    )
    recipe = SimpleNamespace(
        model=SimpleNamespace(depth=1, width=2, vocabulary_size=3),
        training=SimpleNamespace(length=4), to_dict=lambda: {"model": 1},
    )  # fmt: skip
    # These take their functions when they are imported, which must not be the ones below.
    for module in ("correcting", "filling", "scoring"):
        import_module(f"stochloc.tasks.by_record.{module}")
    for module, name, result in (
        ("tasks.quickstart", "quickstart", {}), ("tasks.evaluate", "evaluate", Evaluated()),
        ("tasks.infill.fill", "infill", Infilled((), "text", "", 1, 0.0)),
        ("tasks.train", "start_run", None), ("tasks.train", "resume_run", None),
        ("tasks.train", "start_from", None),
        ("tasks.score", "score", scored), ("tasks.correct.correct", "correct", corrected),
        ("tasks.generate", "generate_batches", [drawn]), ("tasks.tune", "tune", {"paths": []}),
        ("importers.run", "import_run", recipe), ("tasks.compare.compare", "compare", Compared()),
        ("cli.compare", "find_spec", "a package"), ("cli.compare", "write_all", None),
        ("viz.comparison", "pictures", {}), ("cli.plot", "write_all", None),
        ("cli.cyclic", "_draw", None), ("tasks.cyclic", "describe", "tables"),
        ("tasks.scored", "remarks", ()), ("app.server", "create_app", None),
        ("app.serving", "bind", SimpleNamespace(getsockname=lambda: ("", 7860))),
        ("app.serving", "open_browser", None), ("app.serving", "run", None),
        ("tasks.plain_export", "export_plain", exported),
        ("tasks.push", "push", pushed), ("tasks.push", "prepare", listed),
        ("tasks.pull", "pull", pulled),
        ("tasks.by_record", "work_through", Done(Path("results.jsonl"), 2, 1, 1, 0.0)),
    ):  # fmt: skip
        monkeypatch.setattr(import_module(f"stochloc.{module}"), name, noting(result))
    monkeypatch.setattr(CyclicExperiment, "run", lambda experiment: noting({})(experiment))
    monkeypatch.setattr("stochloc.tasks.scored.describe", lambda _, tokens: f"scored {tokens}")
    monkeypatch.setattr("stochloc.viz.figures.FIGURES", {"walk": noting({})})
    (tmp_path / "other").write_text("the quick fox jumps over the lazy dog. " * 30)
    (tmp_path / "lines").write_text("the dog\n")
    (tmp_path / "examples.csv").write_text("read,right,ocr,truth\nteh,the,tho,the\n")
    names = {
        "RUN": trained / "run", "ENCODER": encoder, "TEXT": trained / "text.txt",
        "OTHER": tmp_path / "other", "LINES": tmp_path / "lines", "OUT": tmp_path / "out",
        "NEW": tmp_path / "new", "RESULTS": tmp_path / "results.jsonl",
        "CHECKPOINT": tmp_path / "checkpoint", "EXAMPLES": tmp_path / "examples.csv",
    }  # fmt: skip
    return SimpleNamespace(names=names, noted=noted, folder=tmp_path)


@pytest.fixture
def effect(place, capsys):
    """What a command does with some arguments."""

    def does(command, *arguments):
        place.noted.clear()
        words = [str(place.names.get(str(word), word)) for word in arguments]
        ended = 0
        try:
            main([command, *words])
        except SystemExit as stopped:
            ended = stopped.code
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        new = place.names["NEW"]
        written = new.is_file() and new.read_bytes()
        if new.is_dir():
            shutil.rmtree(new)
        new.unlink(missing_ok=True)
        return list(place.noted), said.out, said.err, ended, written

    return does


def words(flag, value):
    return (flag, *(value if isinstance(value, tuple) else (value,)))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_has_every_flag(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    lines = re.findall(r"^\W{1,2}(-.+?)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    shown = {flag for line in lines for flag in re.findall(r"--[a-z][a-z-]*", line)}
    assert shown - {"--help"} == set(FLAGS[command])


@pytest.mark.bulk
@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_an_effect(effect, command):
    plain = cache(lambda *arguments: effect(command, *arguments))
    for flag, value in FLAGS[command].items():
        base = OTHER_BASES.get((command, flag), BASES[command])
        enough = (*base, *NEEDS.get((command, flag), ()))
        assert plain(*enough)[3] == 0, (flag, plain(*enough))
        assert effect(command, *enough, *words(flag, value)) != plain(*enough), flag


@pytest.mark.slow
@pytest.mark.bulk
@pytest.mark.parametrize("command", COMMANDS)
def test_no_flag_is_ignored_beside_another(effect, command):
    plain = cache(lambda *arguments: effect(command, *arguments))
    ignored = []
    for (other, its), (flag, value) in product(FLAGS[command].items(), repeat=2):
        base = (*OTHER_BASES.get((command, flag), BASES[command]), *words(other, its))
        if flag == other or (command, other, flag) in GRANTED or plain(*base)[3]:
            continue
        if effect(command, *base, *words(flag, value)) == plain(*base):
            ignored.append(f"{flag} beside {other}")
    assert not ignored
