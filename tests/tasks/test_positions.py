"""Positions as a user names them: words stay, files become what is kept in the recipe."""

import json

import pytest

from stochloc.nn.places import coordinates
from stochloc.tasks.positions import read_positions

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
