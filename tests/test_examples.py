"""Every example runs, shows what it says, and is short."""

import math
from pathlib import Path

import doubtful_letters
import exact_world
import fill_blanks
import own_path
import own_policy
import pytest

import stochloc

pytestmark = pytest.mark.bulk

FILES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
LOG_5 = math.log(5)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_has_at_most_sixty_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_with_a_step_a_token_the_masked_bound_is_the_truth_and_more_steps_bring_diffusion_closer():
    costs = exact_world.costs()
    for steps in (5, 20, 80):
        assert costs["masked", steps].mean == pytest.approx(LOG_5, abs=1e-6)
    assert costs["masked", 2].mean == pytest.approx(3 * LOG_5, abs=1e-5)
    means = [costs["diffusion", steps].mean for steps in (2, 5, 20, 80)]
    assert means == sorted(means, reverse=True)
    assert means[-1] > LOG_5 - 4.9 * costs["diffusion", 80].stderr


def test_a_path_of_ones_own_costs_the_truth(capsys):
    own_path.main()
    bound, integral, error, truth = map(float, _numbers(capsys.readouterr().out))
    assert bound == pytest.approx(LOG_5, abs=1e-4)
    assert truth == pytest.approx(LOG_5, abs=1e-4)
    assert abs(integral - LOG_5) < 4.9 * error


def test_two_tokens_decided_at_once_cost_twice_the_truth(capsys):
    own_policy.main()
    one, truth, two, _ = map(float, _numbers(capsys.readouterr().out))
    assert one == truth
    assert two == pytest.approx(2 * truth, abs=2e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(tmp_path_factory.mktemp("cache")))
        return fill_blanks.trained(tmp_path_factory.mktemp("example"))


def test_a_blank_is_filled_with_a_word_of_the_language(run):
    answers = stochloc.infill(run, "my ______ follows the sea.").answers
    assert answers[0].text == "my sister follows the sea."


def test_a_wrong_letter_is_doubted_and_the_others_are_not(run):
    probabilities = doubtful_letters.probabilities(run, "the kimg sees the river.")
    wrong = "the kimg".index("m")
    assert probabilities[wrong] == min(probabilities) < doubtful_letters.DOUBT
    assert sum(p < doubtful_letters.DOUBT for p in probabilities) <= 2


def _numbers(text: str) -> list[str]:
    words = text.replace(",", " ").replace(":", " ").split()
    return [word for word in words if word.replace(".", "").isdigit()]
