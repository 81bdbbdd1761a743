"""Help pages are set in lines as long as the page is wide."""

import contextlib
import io
import re
from itertools import pairwise

import pytest

from stochloc.cli import main
from stochloc.cli.commands import COMMANDS

pytestmark = pytest.mark.bulk

WIDTH = 100


def help_page(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    return printed.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_help_page_sends_an_installed_user_to_a_file_of_the_repository(command, monkeypatch):
    assert ".md" not in help_page(command, monkeypatch)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_ends_only_where_the_next_word_has_no_room(command, monkeypatch):
    lines = [line[2:-2] for line in help_page(command, monkeypatch).splitlines() if line[:1] == "│"]
    assert lines
    num_continued = 0
    for line, after in pairwise(lines):
        goes_on = re.match(r" {8,}(\S+)", after)
        # An option too long for its column has its help below, which is no continuation.
        if goes_on is None or (line[0] != " " and len(line.split("  ")[0].strip()) > 16):
            continue
        num_continued += 1
        assert len(line.rstrip()) + 1 + len(goes_on[1]) > len(line), (line, after)
    assert num_continued
