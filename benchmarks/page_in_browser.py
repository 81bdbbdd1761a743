"""The page in a real browser: how soon it is there, how soon a step is on the screen, and pictures.

A server process is started on the run, and Debian's Chromium without a window opens the page, so
browser and model share the processors of one machine. *First page*: from the beginning of the
navigation until the tabs can be used, the server running, the model loaded and nothing of the page
kept by the browser. *Step to paint*: from the moment a step has been computed until a frame of the
screen that shows it was handed over; walks faster than the screen show some steps together, and the
last of these counts. The server's clock begins when a request has reached it, the page's when it is
sent, so the figures are a little too large. `--pictures` writes those of docs/how-to/page.md.

    python benchmarks/page_in_browser.py RUN [--visits 9] [--walks 5] [--steps 64] [--smoke]
    python benchmarks/page_in_browser.py RUN --pictures docs/figures
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, expect, sync_playwright
from smoke import small_run

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
SCREEN, PHONE = (1100, 850), (375, 720)
PAINTED = "() => performance.getEntriesByName('painted').map(({ detail }) => detail.delay)"
READY = "() => performance.getEntriesByName('ready')[0].startTime"
PATIENCE_MS = 120_000


class Scene(NamedTuple):
    """What a picture shows.

    Attributes:
        name: Of the file, after `page-`.
        tab: The tab.
        state: What the address says of it.
        size: Of the window.
        scheme: light or dark.
        press: A cell whose menu is opened, if any.
        hover: A cell that the pointer is on, if any.
    """

    name: str
    tab: str
    state: dict[str, Any]
    size: tuple[int, int] = SCREEN
    scheme: str = "light"
    press: int | None = None
    hover: int | None = None


FIXED = [{"step": 20, "place": 30, "do": "fix", "token": "q"}]
SCENES = (
    Scene("walk", "walk", {"prompt": "To be, or ", "path": "diffusion", "steps": 48, "at": 20},
          hover=14),
    Scene("steer", "walk", {"prompt": "To be, or ", "path": "rolling", "steps": 48, "at": 20,
                            "edits": json.dumps(FIXED)}, scheme="dark", press=26),
    Scene("phone", "walk", {"prompt": "To be, or ", "path": "rolling", "steps": 48, "at": 24},
          size=PHONE),
    Scene("compare", "compare", {"prompt": "My lord, ", "pathA": "diffusion", "pathB": "masked",
                                 "steps": 32, "at": 20}),
    Scene("fill", "fill", {"template": "My lord, the {3-5} is ____ here.", "draws": 32}),
    Scene("repair", "repair", {"text": "What is teh matter, my lorrd? I know thta you are well."}),
    Scene("score", "score", {"A": "What is the matter, my lord?",
                             "B": "What is teh mater, my lrod?"}, scheme="dark"),
)  # fmt: skip


@contextmanager
def serving(run: str) -> Iterator[str]:
    """Run `stochloc demo` as a process; yield its address."""
    command = [sys.executable, "-m", "stochloc", "demo", run, "--no-open", "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start Chromium without a window."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("There is no Chromium; install it, on Debian with: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


def opened(browser: Browser, address: str, **settings: Any) -> Page:  # noqa: ANN401
    """Open the page in a browser that has nothing of it stored, and wait until it can be used."""
    page = browser.new_context(**settings).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


def measure_visits(browser: Browser, address: str, num: int) -> list[float]:
    """Return how many seconds each of some first visits took."""
    seconds = []
    for _ in range(num):
        page = opened(browser, address)
        seconds.append(page.evaluate(READY) / 1000)
        page.context.close()
    return seconds


def measure_walks(browser: Browser, address: str, num: int, steps: int) -> list[float]:
    """Return the milliseconds from step to paint of every frame of some walks."""
    delays: list[float] = []
    for seed in range(num):
        asked = urlencode({"steps": steps, "path": "masked", "seed": seed, "go": 1})
        page = opened(browser, f"{address}#walk?{asked}")
        expect(page.locator("#status")).to_contain_text("has ended", timeout=PATIENCE_MS)
        delays += page.evaluate(PAINTED)
        page.context.close()
    return delays


def draw(browser: Browser, address: str, scene: Scene, folder: Path) -> None:
    """Write the picture of a scene."""
    width, height = scene.size
    state = urlencode({**scene.state, "go": 1})
    page = opened(
        browser, f"{address}#{scene.tab}?{state}",
        viewport={"width": width, "height": height}, color_scheme=scene.scheme,
        reduced_motion="reduce",
    )  # fmt: skip
    panel = page.locator("[role=tabpanel]:not([hidden])")
    expect(panel.locator(".cell").first).to_be_visible(timeout=PATIENCE_MS)
    expect(panel.locator("form").first).to_have_attribute("aria-busy", "false", timeout=PATIENCE_MS)
    page.wait_for_timeout(300)
    cells = panel.locator(".cell")
    if scene.press is not None:
        cells.nth(scene.press).click()
    if scene.hover is not None:
        cells.nth(scene.hover).hover()
    page.screenshot(path=folder / f"page-{scene.name}.png", full_page=True)
    page.context.close()


def row(name: str, unit: str, values: Sequence[float]) -> str:
    """Return the median and what nine of ten do not exceed."""
    if not values:
        return f"{name:16} not measured: no frame was painted by itself"
    ordered = sorted(values)
    tenth = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    middle = statistics.median(ordered)
    return f"{name:16} median {middle:8.3g} {unit}, 90 % within {tenth:8.3g} {unit}"


def main() -> None:
    """Measure, or draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--visits", type=int, default=9)
    parser.add_argument("--walks", type=int, default=5)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    if asked.smoke:
        with small_run() as run:
            report(run, 1, 1, 4)
    elif asked.run is None:
        parser.error("give a run, or --smoke")
    elif asked.pictures is not None:
        with serving(asked.run) as address, browsing() as browser:
            for scene in SCENES:
                draw(browser, address, scene, asked.pictures)
    else:
        report(asked.run, asked.visits, asked.walks, asked.steps)


def report(run: str, visits: int, walks: int, steps: int) -> None:
    """Print all figures of a run."""
    with serving(run) as address, browsing() as browser:
        print(row("first page", "s", measure_visits(browser, address, visits)))
        delays = measure_walks(browser, address, walks, steps)
        print(row("step to paint", "ms", delays))
        print(f"{len(delays)} of {walks * (steps + 1)} frames were painted one by one")


if __name__ == "__main__":
    main()
