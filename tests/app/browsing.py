"""What tests of the page do and look at, in the words of its user."""

import json
import re

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=30_000)


def shown(page):
    """The tab that is shown."""
    return page.locator("[role=tabpanel]:not([hidden])")


def field(page, label):
    """A control of the tab that is shown."""
    return shown(page).get_by_label(label, exact=True)


def button(page, name):
    """A button by its whole name."""
    return page.get_by_role("button", name=name, exact=True)


def ended(page):
    """Wait for the end of the walk that was asked for last."""
    expect(page.locator("#status")).to_contain_text("has ended")


def at_step(page, text):
    """Wait until the player is at a step, such as 3 / 8."""
    expect(shown(page).locator(".count")).to_have_text(text)


def go_to(page, step):
    """Show a step by the slider."""
    shown(page).get_by_role("slider", name="Step").fill(str(step))
    expect(shown(page).locator(".figures").first).to_contain_text(f"step {step} ")


def letters(page, within=".stage"):
    """What the cells show."""
    return shown(page).locator(f"{within} .letter").all_text_contents()


def shades(page, scale="snr", within=".stage"):
    """The number of every cell's shade."""
    names = (
        shown(page).locator(f"{within} .cell").evaluate_all("all => all.map((c) => c.className)")
    )
    return [int(re.search(rf"{scale}-(\d)", name)[1]) for name in names]


def figures(page):
    """The step, bits and calls that are shown."""
    text = shown(page).locator(".figures").first.text_content()
    return [float(number) for number in re.findall(r"[\d.]+", text)][:3]


def bodies(page, path="/api/walk"):
    """A list of the bodies that are sent from now on."""
    sent = []
    page.on(
        "request",
        lambda request: (
            sent.append(json.loads(request.post_data)) if request.url.endswith(path) else None
        ),
    )
    return sent
