"""Of a model with classes the HTTP interface answers for a class as the command line does."""

import json

import pytest
from app.asking import here

from stochloc.cli import main
from stochloc.tasks.runs import open_run

pytestmark = pytest.mark.bulk
TRAIN = (
    "--steps", "4", "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "4",
    "--eval-every", "4", "--accelerator", "cpu", "--sequences",
)  # fmt: skip


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """The folder of a run on short and on long sequences, which are its classes."""
    folder = tmp_path_factory.mktemp("classes")
    letters = "abcdefgh"
    (folder / "short").write_text("\n".join(a + b for a in letters for b in letters))
    (folder / "long").write_text("\n".join(a * 3 + b * 3 + "a" for a in letters for b in letters))
    data = f"short={folder / 'short'},long={folder / 'long'}"
    main(["train", "--data", data, "--out", str(folder / "run"), *TRAIN])
    return folder / "run"


@pytest.fixture(scope="module")
def served_here(classes):
    with here(open_run(classes)) as server:
        yield server


# What the interface adds to a command's answer, and what the clock says.
MORE = {"seconds", "places", "remarks", "lines"}


@pytest.mark.parametrize("label", ["short", "long"])
@pytest.mark.parametrize(
    ("name", "body", "arguments"),
    [
        ("sample", {"n": 3, "seed": 2}, ("--n", "3", "--seed", "2")),
        ("infill", {"template": "a_c", "n": 2}, ("a_c", "--n", "2")),
        ("correct", {"text": "abbba"}, ("abbba",)),
        ("score", {"text": ["aaabbba"]}, ("LINES",)),
    ],
)
def test_an_answer_for_a_class_is_that_of_the_command(
    name, body, arguments, label, classes, served_here, tmp_path, capsys
):
    (tmp_path / "lines").write_text("aaabbba\n")
    given = [str(tmp_path / "lines") if word == "LINES" else word for word in arguments]
    capsys.readouterr()
    main([name, str(classes), *given, "--label", label, "--json"])
    expected = json.loads(capsys.readouterr().out)
    answer = served_here.post(f"/api/{name}", {**body, "label": label}).json
    assert {**expected, **answer}.keys() - MORE == expected.keys() - MORE
    assert all(answer[key] == value for key, value in expected.items() if key not in MORE)
    if name == "sample":
        assert set(answer["lengths"]) == {2 if label == "short" else 7}


@pytest.mark.parametrize("label", ["short", "long"])
def test_a_walk_for_a_class_draws_the_sample_of_the_command(label, classes, served_here, capsys):
    capsys.readouterr()
    main(["sample", str(classes), "--n", "1", "--seed", "5", "--label", label, "--json"])
    expected = json.loads(capsys.readouterr().out)["samples"]
    name, told = served_here.events("/api/walk", {"seed": 5, "label": label})[-1]
    assert (name, [told["text"]]) == ("done", expected)


def test_a_prompt_longer_than_every_sequence_is_refused(served_here):
    body = {"prompt": "abc" * 20, "label": "short"}
    for name in ("sample", "walk"):
        answer = served_here.post(f"/api/{name}", body)
        assert answer.status == 422
        assert answer.json["detail"].startswith("The prompt has 60 tokens, more than the ")


@pytest.mark.parametrize("name", ["sample", "infill", "correct", "score"])
def test_a_class_that_is_not_there_is_refused_with_those_that_are(name, served_here):
    bodies = {"infill": {"template": "a_c"}, "correct": {"text": "ab"}, "score": {"text": "ab"}}
    answer = served_here.post(f"/api/{name}", {**bodies.get(name, {}), "label": "huge"})
    assert answer.status == 422
    assert "the classes are short, long" in answer.json["detail"]
