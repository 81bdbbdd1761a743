"""The names that the command line offers are those in the tables that define them."""

from typing import get_args

import pytest

from stochloc import names
from stochloc.data import make_tokenizer
from stochloc.data.tokenizers.named import TOKENIZERS
from stochloc.tasks.paths import PATHS, TRANSITIONS
from stochloc.tasks.policies import CORRECTORS, POLICIES
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import WalkSettings
from stochloc.viz.figures import FIGURES


@pytest.mark.parametrize(
    ("offered", "made"),
    [
        (names.PathName, (*PATHS, "tuned")),
        (names.TransitionName, TRANSITIONS),
        (names.PolicyName, POLICIES),
        (names.CorrectorName, CORRECTORS),
        (names.TokenizerName, TOKENIZERS),
        (names.FigureName, (*FIGURES, "all")),
    ],
)
def test_every_name_that_is_offered_makes_something_and_no_other_does(offered, made):
    assert get_args(offered) == tuple(made)


def test_a_name_that_is_not_offered_is_refused_with_those_that_are(trained, tmp_path):
    run = open_run(trained / "run")
    with pytest.raises(ValueError, match="masked, spread, diffusion"):
        WalkSettings("straight").resolve(run)
    with pytest.raises(ValueError, match="ancestral, euler"):
        WalkSettings(transition="leap").resolve(run)
    with pytest.raises(ValueError, match="characters, bytes, text8"):
        make_tokenizer("words", tmp_path / "absent.txt")
