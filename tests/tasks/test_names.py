"""The names that the command line offers are those of the tables that define them."""

import re
from pathlib import Path

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

# Ways to name a tokenizer that is read, not made.
READ = ("FILE.json", "hub:NAME")


@pytest.mark.parametrize(
    ("offered", "made"),
    [
        (names.PATHS, PATHS),
        (names.TRANSITIONS, TRANSITIONS),
        (names.CERTAINTIES, CERTAINTIES),
        (names.POLICIES, POLICIES),
        (names.CORRECTORS, CORRECTORS),
        (names.ARCHITECTURES, ARCHITECTURES),
        (names.LAWS, NAMED_LAWS),
        (names.FIGURES, FIGURES),
        (names.TOKENIZERS, (*TOKENIZERS, *LEARNED, *READ)),
    ],
    ids=lambda made: next(iter(made)),
)
def test_names_read_from_source_are_those_of_the_tables_in_their_order(offered, made):
    assert offered == tuple(made)


def test_a_table_whose_names_cannot_be_read_is_no_table_of_names():
    with pytest.raises(AssertionError, match=r"tasks/policies.py has a computed key"):
        names.keys("_MAKERS", "tasks/policies.py")
    with pytest.raises(AssertionError, match=r"tasks/paths.py has no table ROADS"):
        names.keys("ROADS", "tasks/paths.py")


@pytest.mark.parametrize(
    ("title", "offered"),
    [("path", (*names.PATHS, "tuned")), ("policy", names.POLICIES)],
)
def test_the_page_on_choosing_lists_every_path_and_policy_and_no_other(title, offered):
    page = Path(__file__).parents[2] / "docs" / "how-to" / "choose.md"
    text = page.read_text(encoding="utf-8")
    rows = re.search(rf"^\| {title} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert rows is not None
    listed = [
        name for row in rows[1].splitlines() for name in re.findall("`(.+?)`", row.split("|")[1])
    ]
    assert len(set(listed)) == len(listed)
    missing, unknown = set(offered) - set(listed), set(listed) - set(offered)
    assert not missing, f"{page.name}: its table of {title}s lacks {sorted(missing)}"
    assert not unknown, f"{page.name}: nobody offers {sorted(unknown)} of its table of {title}s"


def test_a_name_that_is_not_offered_is_refused_with_those_that_are(trained, tmp_path):
    run = open_run(trained / "run")
    with pytest.raises(ValueError, match="masked, spread, sweep, diffusion"):
        WalkSettings("straight").resolve(run)
    with pytest.raises(ValueError, match="ancestral, euler"):
        WalkSettings(transition="leap").resolve(run)
    with pytest.raises(ValueError, match=r"there are .*text8"):
        make_tokenizer("letters", tmp_path / "absent.txt")
