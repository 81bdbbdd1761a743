"""A flag that another one leaves without effect is refused, not ignored."""

from pathlib import Path

import pytest

from stochloc.cli import main
from stochloc.cli.compare import Compare
from stochloc.cli.correct import Correct
from stochloc.cli.eval import Eval
from stochloc.cli.infill import Infill
from stochloc.cli.options import PolicyOptions
from stochloc.cli.plot import Plot
from stochloc.cli.sample import Sample
from stochloc.cli.score import Score
from stochloc.cli.train import Train

ROUNDS = "without --corrector-rounds"
REFUSED = [
    (("eval", "RUN", "--continuous", "--transition", "euler"), "--transition", "with --continuous"),
    (("eval", "RUN", "--policy", "entropy", "--path=masked"), "--path", "with --policy entropy"),
    (("eval", "RUN", "--corrector_share", "0.1"), "--corrector-share", ROUNDS),
    (("eval", "RUN", "--corrector-snr=0"), "--corrector-snr", ROUNDS),
    (("sample", "RUN", "--corrector", "together"), "--corrector", ROUNDS),
    (("sample", "RUN", "--policy", "threshold:0.8", "--path", "masked"), "--path",
     "with --policy threshold:0.8"),
    (("score", "RUN", "lines", "--continuous", "--transition", "ancestral"), "--transition",
     "with --continuous"),
    (("infill", "RUN", "th_", "--policy", "confidence", "--path", "tuned"), "--path",
     "with --policy confidence"),
    (("correct", "RUN", "teh", "--steps", "4"), "--steps", "without --walk"),
    (("correct", "RUN", "teh", "--path", "masked"), "--path", "without --walk"),
    (("correct", "RUN", "teh", "--walk", "--path", "masked"), "--path",
     "with --policy threshold:0.9"),
    (("plot", "paths", "--out", "figures", "--size", "4"), "--size", "with the figure paths"),
    (("plot", "walk", "RUN", "--out", "figures", "--counts", "4"), "--counts",
     "with the figure walk"),
    (("plot", "cyclic", "--out", "figures", "--checkpoint", "last"), "--checkpoint",
     "with the figure cyclic"),
    (("correct", "RUN", "teh", "--seed", "1"), "--seed", "without --walk"),
    (("correct", "RUN", "teh", "--snr", "3", "--confidences", "1,0,0"), "--snr",
     "with --confidences"),
    (("correct", "RUN", "teh", "--one-pass", "--snr", "3", "--threshold", "0.5", "--data", "TEXT"),
     "--data", "with both --snr and --threshold"),
    (("score", "RUN", "lines", "--path", "autoregressive", "--draws", "3"), "--draws",
     "with --path autoregressive"),
    (("compare", "--data", "TEXT", "--out", "new", "--grid", "0.1", "--short", "0.5"), "--short",
     "with a single rate in --grid"),
    *((
        (*command, "--data", "TEXT", "--out", "new", "--valid", "TEXT", "--test", "TEXT",
         "--fractions", "0.8", "0.1", "0.1"), "--fractions", "with both --valid and --test",
    ) for command in (("train",), ("compare",), ("import", "mdlm", "checkpoint"))),
]  # fmt: skip


@pytest.mark.parametrize(("line", "flag", "why"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_flag_without_effect_is_refused_in_a_sentence_that_names_both(
    trained, refuse, line, flag, why
):
    names = {"RUN": trained / "run", "TEXT": trained / "text.txt"}
    words = [names.get(word, word) for word in line]
    assert refuse(*words) == f"stochloc: {flag} has no effect {why}."


def test_correcting_by_edits_asks_for_no_text(trained, refuse):
    """Of a two-sided model edits are the default, so that the flags alone do not say so."""
    sentence = refuse("correct", trained / "run", "teh", "--data", trained / "text.txt")
    assert "--data has no effect with edits" in sentence


def test_a_flag_with_effect_and_a_default_that_nobody_typed_are_not_refused(trained, call):
    few = ("--sequences", 2, "--steps", 2)
    run = trained / "run"
    call("eval", run, *few, "--continuous", "--path", "diffusion")
    call("eval", run, *few, "--policy", "entropy", "--transition", "euler")
    call("sample", run, "--n", 1, "--steps", 2, "--corrector-rounds", 1, "--corrector-share", 0.1)
    call("correct", run, "teh", "--walk", "--policy", "path", "--path", "masked", "--steps", 2,
         "--snr", 3, "--threshold", 0.5)  # fmt: skip


@pytest.mark.parametrize(("command", "options"), [
    ("eval", Eval("RUN", continuous=True, walk=PolicyOptions("entropy"))),
    ("sample", Sample("RUN", walk=PolicyOptions("entropy"))),
    ("score", Score("RUN", "lines", continuous=True)),
    ("infill", Infill("RUN", "th_", policy="entropy")),
    ("correct", Correct("RUN")), ("plot", Plot("training", Path("out"), policy="entropy")),
    ("plot", Plot("paths", Path("out"))), ("score", Score("RUN", "lines", path="autoregressive")),
    ("correct", Correct("RUN", confidences="1")),
    ("compare", Compare("a", Path("out"), grid=(0.1,))),
    ("train", Train(Path("out"), ("a",), valid="b", test="c")),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_what_is_refused_is_a_flag_of_the_command(command, options, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out.split()
    unused = options.unused()
    assert unused
    # Rounds are options of two commands, of which one alone chooses how they come up.
    known = set(unused) - ({"--corrector"} if command == "eval" else set())
    assert known <= set(shown)
