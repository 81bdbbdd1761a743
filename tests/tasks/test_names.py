"""The names that the command line offers are those in the tables that define them."""

import re
from pathlib import Path
from typing import get_args

import pytest

from stochloc import names
from stochloc.core import CERTAINTIES
from stochloc.data import make_tokenizer
from stochloc.data.tokenizers.named import LEARNED, TOKENIZERS
from stochloc.nn.backbones import ARCHITECTURES
from stochloc.tasks.paths import PATHS, TRANSITIONS
from stochloc.tasks.policies import CORRECTORS, POLICIES
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import WalkSettings
from stochloc.training.choices import NAMED_LAWS
from stochloc.viz.figures import FIGURES


@pytest.mark.parametrize(
    ("kind", "offered", "made"),
    [
        ("PathName", get_args(names.PathName), (*PATHS, "tuned")),
        ("TransitionName", get_args(names.TransitionName), TRANSITIONS),
        ("CERTAINTIES", names.CERTAINTIES, CERTAINTIES),
        ("POLICIES", names.POLICIES, POLICIES),
        ("CorrectorName", get_args(names.CorrectorName), CORRECTORS),
        ("ArchitectureName", get_args(names.ArchitectureName), ARCHITECTURES),
        ("LawName", get_args(names.LawName), NAMED_LAWS),
        ("TokenizerName", get_args(names.TokenizerName), TOKENIZERS),
        ("FigureName", get_args(names.FigureName), (*FIGURES, "all")),
    ],
)
def test_every_name_that_is_offered_makes_something_and_no_other_does(kind, offered, made):
    assert len(set(offered)) == len(offered)
    missing, idle = set(made) - set(offered), set(offered) - set(made)
    assert not missing, f"add {sorted(missing)} to {kind} in names.py"
    assert not idle, f"{sorted(idle)} in {kind} of names.py makes nothing"


@pytest.mark.parametrize(
    ("title", "offered"),
    [("path", get_args(names.PathName)), ("policy", names.POLICIES)],
)
def test_the_readme_lists_every_path_and_policy_and_no_other(title, offered):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.search(rf"^\| {title} \|.*\n\|[-|]+\n((?:\|.*\n)+)", readme, re.MULTILINE)
    assert rows is not None
    listed = [
        name for row in rows[1].splitlines() for name in re.findall("`(.+?)`", row.split("|")[1])
    ]
    assert len(set(listed)) == len(listed)
    missing, unknown = set(offered) - set(listed), set(listed) - set(offered)
    assert not missing, f"the README's table of {title}s lacks {sorted(missing)}"
    assert not unknown, f"the README's table of {title}s has {sorted(unknown)}, which nobody offers"


def test_a_name_that_is_not_offered_is_refused_with_those_that_are(trained, tmp_path):
    run = open_run(trained / "run")
    with pytest.raises(ValueError, match="masked, spread, diffusion"):
        WalkSettings("straight").resolve(run)
    with pytest.raises(ValueError, match="ancestral, euler"):
        WalkSettings(transition="leap").resolve(run)
    with pytest.raises(ValueError, match=r"there are .*text8"):
        make_tokenizer("letters", tmp_path / "absent.txt")


def test_every_setting_that_a_tokenizer_takes_is_offered_with_it():
    offered = {form.partition(":")[0] for form in names.TOKENIZER_FORMS if ":" in form}
    assert offered == {*LEARNED, "hub"}
