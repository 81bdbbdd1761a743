"""A hook of the site: the page on the command line holds the help page of every command."""

import os
import subprocess
import sys
from typing import Any

PLACE = "[[help pages]]"


def help_page(*command: str) -> str:
    """Return what `stochloc COMMAND --help` prints, 90 columns wide and without colour."""
    environment = {**os.environ, "COLUMNS": "90", "NO_COLOR": "1", "TERM": "dumb"}
    words = [sys.executable, "-m", "stochloc", *command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=True).stdout


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401
    """Return a page with the help pages where it asks for them."""
    if PLACE not in markdown:
        return markdown
    from stochloc.cli.commands import COMMANDS

    pages = (f"## {name}\n\n```text\n{help_page(name)}```\n" for name in COMMANDS)
    return markdown.replace(PLACE, "\n".join(pages))
