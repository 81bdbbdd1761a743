"""A model trained in seconds, for `--smoke`: does a benchmark run at all?

The printed figures are meaningless. `.ci/run` runs every benchmark in this way, because a script
that is never run breaks unnoticed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from stochloc.cli import main

TEXT = "the quick brown fox jumps over the lazy dog and runs away with a big jar of quinces "
SETTINGS = (
    "--steps", "2", "--length", "40", "--width", "16", "--depth", "1", "--heads", "2",
    "--batch-size", "4", "--accelerator", "cpu",
)  # fmt: skip


@contextmanager
def small_run() -> Iterator[str]:
    """Train a model of a few thousand parameters; yield its folder, which is deleted afterwards."""
    with TemporaryDirectory() as folder:
        os.environ["STOCHLOC_CACHE"] = str(Path(folder) / "cache")
        text, run = Path(folder) / "text.txt", str(Path(folder) / "run")
        text.write_text(TEXT * 60, encoding="utf-8")
        main(["train", "--data", str(text), "--tokenizer", "text8", "--out", run, *SETTINGS])
        yield run
