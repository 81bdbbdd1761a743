"""A tiny run, a server process that serves it twice, and a browser."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from stochloc.cli import main

TEXT = "the quick brown fox jumps over the lazy dog and runs away. "
TRAIN = (
    "--steps", "4", "--length", "16", "--width", "16", "--depth", "1", "--heads", "2",
    "--batch-size", "4", "--eval-every", "2", "--checkpoint-every", "2", "--accelerator", "cpu",
)  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# What a browser does by itself: it shall neither phone home nor need a screen or a user of its own.
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip


class Serving(NamedTuple):
    """A server process."""

    address: str
    process: int


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with a text and a run on it; tests may read it, never write."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "text.txt").write_text(TEXT * 40, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(folder / "cache"))
        main(["train", "--data", str(folder / "text.txt"), "--out", str(folder / "run"), *TRAIN])
    return folder


@contextlib.contextmanager
def serving(*arguments: str | Path) -> Iterator[Serving]:
    """Run `stochloc demo` as a process, and end it."""
    command = [sys.executable, "-m", "stochloc", "demo", "--no-open", "--port", "0"]
    cache = str(Path(arguments[0]).parent / "cache")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STOCHLOC_CACHE": cache}
    with subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            yield Serving(process.stdout.readline().strip(), process.pid)
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="session")
def served(trained):
    """A server of the run, which it knows by two names: run and run-2."""
    with serving(trained / "run", trained / "run") as server:
        yield server


@pytest.fixture(scope="session")
def chromium():
    """A browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("there is no Chromium; apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, served):
    """Open the page at a state of it; an error in its code, or one told to the console, fails."""
    with contextlib.ExitStack() as stack:
        wrong = []

        def open_page(state: str = "", *, is_calm: bool = True, **settings: object):
            settings = {"viewport": {"width": 1100, "height": 850}, **settings}
            context = stack.enter_context(chromium.new_context(**settings))
            context.set_default_timeout(20_000)
            page = context.new_page()
            page.on("pageerror", lambda error: wrong.append(str(error)))
            if is_calm:
                page.on(
                    "console",
                    lambda said: wrong.append(said.text) if said.type == "error" else None,
                )
            page.goto(f"{served.address}{state}")
            page.wait_for_selector("body[data-ready]")
            return page

        yield open_page
        assert wrong == []
