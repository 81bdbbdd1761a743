"""The command line: arguments in, tasks called, results out.

One file a command (`cli.commands` is their table), options that several of them share
(`cli.options`), and the program around them (`cli.program`). Nothing heavy is imported before a
command is chosen, so `--help` is fast.
"""

from stochloc.cli.program import main

__all__ = ["main"]
