"""A process that executes requests line by line and reports their outcome: a user's Python.

Tests run under a type checker that would stop bad values before the library sees them; this
process does not. Each request is a JSON list, the name of an action and its arguments.
"""

import contextlib
import io
import json
import resource
import sys
import time
import traceback
from pathlib import Path

import torch

from stochloc.cli import main
from stochloc.data import Text8Tokenizer
from stochloc.tasks.infill.templates import Template
from stochloc.tasks.runs import open_run
from stochloc.training.recipes import Recipe

torch.set_num_threads(1)


def command_line(*arguments: str) -> None:
    main(list(arguments))


def model_folder(folder: str) -> None:
    open_run(folder)


def recipe(values: str) -> None:
    Recipe.from_dict(json.loads(values))


def template(text: str) -> None:
    Template.parse(text, Text8Tokenizer()).layouts()


ACTIONS = {action.__name__: action for action in (command_line, model_folder, recipe, template)}


def answer(name: str, *arguments: str) -> dict[str, object]:
    out, errors = io.StringIO(), io.StringIO()
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s, ended = time.process_time(), "done"
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            ACTIONS[name](*arguments)
        except SystemExit as stopped:
            ended = f"exit {stopped.code}"
        except ValueError as error:
            ended = f"ValueError: {error}"
        except BaseException:
            ended = f"crash: {traceback.format_exc()}"
    return {
        "ended": ended, "out": out.getvalue(), "errors": errors.getvalue(),
        "seconds": time.process_time() - started_s,
        "grown_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb,
    }  # fmt: skip


if __name__ == "__main__":
    assert Path(sys.argv[0]).name == "worker.py"
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)
