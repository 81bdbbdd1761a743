"""What cannot be parsed, or is out of its flag's range, ends with code 2 and one sentence."""

import math
import subprocess
import sys

import pytest

from stochloc.cli import main
from stochloc.cli.commands import COMMANDS
from stochloc.cli.parsing_errors import sentence_of
from stochloc.cli.ranges import POSITIVE, PROBABILITY, SHARE, Range, at_least
from stochloc.names import PATHS

pytestmark = pytest.mark.bulk


def refused(capsys, *arguments):
    """The one line that a command says that must end with code 2."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line.removeprefix("stochloc: ")


@pytest.mark.parametrize("columns", ["40", "200"])
@pytest.mark.parametrize(("arguments", "sentence"), [
    (("sample", "RUN", "--n", "two"), "--n must be a whole number, not 'two'."),
    (("infill", "RUN", "a_", "--n", "2.5"), "--n must be a whole number, not '2.5'."),
    (("sample", "RUN", "--steps", "many"), "--steps must be a whole number, not 'many'."),
    (("sample", "RUN", "--temperature", "hot"), "--temperature must be a number, not 'hot'."),
    (("correct", "RUN", "teh", "--snr", "x"), "--snr must be a number, not 'x'."),
    (("plot", "steps", "RUN", "--out", "x", "--counts", "4", "x"),
     "--counts does not take 4 x."),
    (("eval", "RUN", "--transition", "zigzag"),
     "--transition must be one of ancestral, euler, not 'zigzag'."),
    (("score", "RUN", "FILE", "--transition", "zigzag"),
     "--transition must be one of ancestral, euler, not 'zigzag'."),
    (("push", "RUN", "a/b", "--checkpoint", "x"),
     "push has no flag --checkpoint, perhaps you mean --with-checkpoint; see stochloc push "
     "--help."),
    (("eval", "RUN", "--checkpoint", "worst"),
     "--checkpoint must be one of best, last, not 'worst'."),
    (("compare", "--data", "x", "--out", "y", "--accelerator", "tpu"),
     "--accelerator must be one of auto, cpu, cuda, not 'tpu'."),
    (("eval", "RUN", "--split", "some"),
     "--split must be one of train, valid, test, all, not 'some'."),
    *(((command, *rest, "--path", "zigzag"),
       f"--path must be one of {', '.join((*PATHS, 'tuned'))}, not 'zigzag'.")
      for command, *rest in (
          ("eval", "RUN"), ("sample", "RUN"), ("score", "RUN", "FILE"), ("infill", "RUN", "a_"),
          ("correct", "RUN", "teh"), ("plot", "walk", "RUN", "--out", "x"),
      )),
    (("sample", "RUN", "--n"), "--n needs a value."),
    (("sample",), "sample needs RUN; see stochloc sample --help."),
    (("compare",), "compare needs --data STR and --out PATH; see stochloc compare --help."),
    (("sample", "RUN", "--tempreature", "1"),
     "sample has no flag --tempreature, perhaps you mean --temperature; see stochloc sample "
     "--help."),
    (("train", "--out", "x", "--form", "y"),
     "train has no flag --form, perhaps you mean --from; see stochloc train --help."),
    (("eval", "RUN", "more"), "eval takes no argument 'more'; see stochloc eval --help."),
    (("smaple", "RUN"),
     "There is no command 'smaple', perhaps you mean sample; see stochloc --help."),
    (("--xyz",), "There is no flag --xyz; see stochloc --help."),
])  # fmt: skip
def test_what_cannot_be_parsed_is_told_in_one_sentence(
    capsys, monkeypatch, columns, arguments, sentence
):
    monkeypatch.setenv("COLUMNS", columns)
    assert refused(capsys, *arguments) == sentence


def test_a_box_of_another_form_loses_its_frame_and_one_that_is_none_stays():
    for box in (
        "╭─ Some error ─╮\n│ no such      │\n│ thing        │\n│ ──────────── │\n│ a hint       │",
        " Some error   \n ------------ \n  no such     \n  thing       \n  ----------  \n  a hint",
    ):
        assert sentence_of(box, "sample", (), ()) == "no such thing."
    assert sentence_of("no box\n", "sample", (), ()) == "no box"


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("sample", "RUN", "--n", "0"), "--n must be at least 1, not 0."),
    (("infill", "RUN", "a_", "-n", "0"), "--n must be at least 1, not 0."),
    (("infill", "RUN", "a_", "--draws", "0"), "--draws must be at least 1, not 0."),
    (("score", "RUN", "FILE", "--draws", "0"), "--draws must be at least 1, not 0."),
    (("eval", "RUN", "--sequences", "-1"), "--sequences must be at least 0, not -1."),
    (("sample", "RUN", "--top-p", "1.5"), "--top-p must be above 0 and at most 1, not 1.5."),
    (("sample", "RUN", "--temperature", "nan"), "--temperature must be above 0, not nan."),
    (("sample", "RUN", "--corrector-rounds", "-1"),
     "--corrector-rounds must be at least 0, not -1."),
    (("correct", "RUN", "teh", "--threshold", "2"), "--threshold must be from 0 to 1, not 2."),
    (("correct", "RUN", "teh", "--snr", "-1"), "--snr must be at least 0, not -1."),
    (("tune", "RUN", "--sequences", "0"), "--sequences must be at least 1, not 0."),
    (("cyclic", "--size", "1"), "--size must be at least 2, not 1."),
    (("plot", "steps", "RUN", "--out", "x", "--counts", "8", "0"),
     "--counts must be at least 1, not 0."),
    (("compare", "--data", "x", "--out", "x", "--grid", "1e-3", "0"),
     "--grid must be above 0, not 0."),
    (("train", "--out", "x", "--ema-decay", "1"),
     "--ema-decay must be at least 0 and below 1, not 1."),
    (("train", "--out", "x", "--batch-size", "0"), "--batch-size must be at least 1, not 0."),
    (("demo", "RUN", "--port", "65536"), "--port must be from 0 to 65535, not 65536."),
    (("pull", "a/b", "--out", "x", "--timeout", "0"), "--timeout must be above 0, not 0."),
    (("sample", "RUN", "--seed", "-1"), "--seed must be from 0 to 2^63 - 1, not -1."),
])  # fmt: skip
def test_a_number_out_of_range_names_its_flag_and_the_range(capsys, arguments, sentence):
    assert refused(capsys, *arguments) == sentence


@pytest.mark.parametrize(("allowed", "inside", "outside"), [
    (at_least(1), (1, 2, 10**30), (0, -1, math.nan)), (POSITIVE, (1e-300, math.inf), (0, -1)),
    (SHARE, (0.1, 1), (0, 1.1)), (PROBABILITY, (0, 0.5, 1), (-0.1, 1.1, math.nan)),
    (Range(0, 1, without_most=True), (0, 0.999), (1, math.inf, -1)),
])  # fmt: skip
def test_a_range_holds_its_numbers_only(allowed, inside, outside):
    assert all(map(allowed.holds, inside))
    assert not any(map(allowed.holds, outside))


def test_without_a_command_the_help_page_is_printed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert all(command in shown.out for command in COMMANDS)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out == shown.out


def test_a_flag_out_of_range_is_refused_without_importing_torch():
    code = (
        "import sys, stochloc.cli as c\n"
        "try:\n    c.main(['sample', 'RUN', '--n', '0'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
