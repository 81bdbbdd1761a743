"""Positions as a user names them: words stay, files become what is kept in the recipe."""

import json

import pytest
from tasks.conftest import TRAIN

from stochloc.nn.places import coordinates
from stochloc.tasks.positions import read_positions
from stochloc.tasks.runs import open_run
from stochloc.tasks.sequence_training import most_tokens

pytestmark = pytest.mark.bulk

TABLE = "table:0,0;0,1;1,0"


@pytest.mark.parametrize("content", [
    "0,0\n0,1\n1,0\n", "row,column\n0,0\n0,1\n1,0", "0;0\n0; 1\n1 ;0\n\n", "0 0\n0\t1\n1, 0",
    "\ufeff0,0\r\n0,1\r\n1,0\r\n",
])  # fmt: skip
def test_lines_of_numbers_are_the_table_they_describe(content, tmp_path):
    path = tmp_path / "cells.csv"
    path.write_bytes(content.encode())
    assert read_positions(str(path)) == TABLE
    assert coordinates(TABLE) == ((0, 0), (0, 1), (1, 0))


def test_a_json_list_of_lists_is_the_table_it_describes(tmp_path):
    path = tmp_path / "cells.json"
    path.write_text(json.dumps([[0, 0], [0, 1], [1, 0]]))
    assert read_positions(str(path)) == TABLE


@pytest.mark.parametrize("line", ["rotary", "learned", "grid:9x9:3x3", "learned:7", "none.csv"])
def test_what_is_no_file_is_left_to_the_recipe(line):
    assert read_positions(line) == line


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.csv", "0,1\n0,x\n", r"Line 2 of .*a\.csv holds '0,x'"),
    ("a.csv", "h\n0,1\n\n2,3\n", "Line 3 of"),
    ("a.csv", "0,1.5\n", "Line 1 of"),
    ("a.csv", "0,1\n2\n", "Row 2 of the coordinates has 1 numbers"),
    ("a.csv", "0,-1\n", "whole numbers from 0"),
    ("a.csv", "1000000\n", "to 999999"),
    ("a.csv", "", "holds no coordinates"),
    ("a.csv", "row,column\n", "holds no coordinates"),
    ("a.json", "[[0, 1], [2]]", "Row 2 of the coordinates"),
    ("a.json", "[[0, true]]", r"Entry 1 of .* is \[0, true\]"),
    ("a.json", "[[0], 3]", "Entry 2"),
    ("a.json", "{}", "no list"),
    ("a.json", "[[0", "no JSON"),
    ("a.json", "[" * 100_000, "no JSON"),
])  # fmt: skip
def test_a_file_without_coordinates_is_refused_with_its_name_and_place(
    name, content, message, tmp_path
):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_positions(str(path))
    assert name in str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no text"):
        read_positions(str(path))


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """Records of six letters, and the rows and columns of their places."""
    folder = tmp_path_factory.mktemp("forms")
    letters = (f"{n:06b}".replace("0", "a").replace("1", "b") for n in range(64))
    (folder / "forms.txt").write_text("\n".join(letters) + "\n")
    (folder / "cells.csv").write_text("row,column\n0,0\n0,1\n0,2\n1,0\n1,1\n1,2\n")
    return folder


def test_a_file_of_coordinates_is_kept_in_the_run_by_its_numbers(forms, tmp_path, call, refuse):
    data = ("--data", forms / "forms.txt", "--sequences")
    run, cells = tmp_path / "run", tmp_path / "cells.csv"
    cells.write_text((forms / "cells.csv").read_text())
    # The window has room for 14 tokens, but there are coordinates for 6.
    call("train", *data, "--out", run, "--positions", cells, *TRAIN)
    assert open_run(run).model.config.positions == "table:0,0;0,1;0,2;1,0;1,1;1,2"
    call("train", "--out", run, "--resume", "--positions", cells, "--dry-run")
    cells.unlink()
    assert "bits_per_token" in call("eval", run, "--steps", 2, "--json").out
    assert most_tokens(open_run(run).recipe) == 6
    assert "positions would differ" in refuse(
        "train", "--out", run, "--resume", "--positions", "learned"
    )


def test_learned_positions_are_those_of_a_window_without_its_boundaries(forms, tmp_path, call):
    data = ("--data", forms / "forms.txt", "--sequences", "--out", tmp_path / "none", "--dry-run")
    for length, places in ((8, 6), (12, 10)):
        out = call("train", *data, "--positions", "learned", "--length", length).out
        assert json.loads(out)["model"]["positions"] == f"learned:{places}"


def test_positions_that_do_not_fit_are_refused_before_there_is_a_run(forms, tmp_path, refuse):
    new = ("--data", forms / "forms.txt", "--out", tmp_path / "none")
    said = refuse("train", *new, "--sequences", "--positions", "grid:2x2")
    assert "up to 4 tokens, but one has 6" in said
    assert "--positions is for --sequences" in refuse("train", *new, "--positions", "grid:2x3")
    said = refuse("train", *new, "--sequences", "--positions", forms / "forms.txt")
    assert "Line 2 of" in said
    assert not (tmp_path / "none").exists()
