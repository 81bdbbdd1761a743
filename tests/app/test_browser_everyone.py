"""The page for everyone: by keyboard, read out, light and dark, on a phone; what it never does."""

import json
import re
import time
from importlib.resources import files
from pathlib import Path

import pytest
from browsing import at_step, button, ended, expect, field, letters, shown

pytestmark = pytest.mark.bulk

STATIC = Path(str(files("stochloc.app") / "static"))
WALK = "#walk?length=16&steps=8&path=diffusion&go=1"
OTHER_TABS = ("compare", "fill", "repair", "score")
SLOW = pytest.mark.slow
PHONE = {"width": 375, "height": 667}
# WCAG 2.2: relative luminance and contrast of the text and the ground of every element.
CONTRASTS = """all => {
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((value) => channel(Number(value) / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return all.map((element) => {
    const { color, backgroundColor } = getComputedStyle(element);
    const [low, high] = [luminance(color), luminance(backgroundColor)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
}"""


def test_tabs_cells_menu_and_player_are_usable_by_keyboard_alone(visit):
    page = visit()
    page.get_by_role("tab", name="Walk").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Compare").get_attribute("aria-selected") == "true"
    page.keyboard.press("End")
    assert page.get_by_role("tab", name="Score").get_attribute("aria-selected") == "true"
    page.keyboard.press("Home")
    field(page, "Text").focus()
    page.keyboard.type("the ")
    field(page, "Length").focus()
    page.keyboard.type("40")
    field(page, "Steps").focus()
    page.keyboard.type("6")
    page.keyboard.press("Enter")
    ended(page)
    assert "".join(letters(page)).startswith("the␣")
    cells = shown(page).locator(".cell")
    stops = cells.evaluate_all("all => all.filter((cell) => cell.tabIndex === 0).length")
    assert stops == 1, "the cells are one stop of the Tab key"
    cells.first.focus()
    where = "document.activeElement.dataset.place"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(where) == "1"
    page.keyboard.press("ArrowDown")
    below = int(page.evaluate(where))
    boxes = [cells.nth(place).bounding_box() for place in (1, below)]
    assert boxes[1]["y"] > boxes[0]["y"]
    assert boxes[1]["x"] == pytest.approx(boxes[0]["x"], abs=1)
    page.keyboard.press("End")
    assert page.evaluate(where) == "39"
    page.keyboard.press("b")
    at_step(page, "5 / 6")
    page.keyboard.press("Enter")
    menu = page.get_by_role("dialog")
    expect(menu).to_be_visible()
    assert menu.evaluate("menu => menu.contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(menu).to_have_count(0)
    assert page.evaluate(where) == "39"
    page.keyboard.press("p")
    at_step(page, "6 / 6")


@pytest.mark.parametrize("tab", ["walk", *(pytest.param(tab, marks=SLOW) for tab in OTHER_TABS)])
def test_everything_one_can_use_has_a_name_and_results_are_announced(visit, tab):
    page = visit(f"#{tab}")
    names = shown(page).evaluate(
        """panel => [...panel.querySelectorAll("input, select, textarea, button")]
        .filter((control) => control.checkVisibility())
        .map((control) => control.ariaLabel
          || (control.tagName === "BUTTON" ? control.textContent.trim()
            : [...control.labels].map((label) => label.textContent).join("")))"""
    )
    assert len(names) > 3
    assert all(names)
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    assert shown(page).get_attribute("aria-labelledby") == f"tab-{tab}"
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.slow
def test_a_cell_says_its_token_its_snr_and_its_probability(visit):
    page = visit(f"{WALK}&at=3&prompt=the+")
    at_step(page, "3 / 8")
    ended(page)
    says = shown(page).locator(".cell").evaluate_all("all => all.map((cell) => cell.ariaLabel)")
    assert says[:4] == ["t, given", "h, given", "e, given", "space, given"]
    assert all("SNR" in one and "probability" in one and "bits" in one for one in says[4:])


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=SLOW)])
@pytest.mark.parametrize(("tab", "shades"), [("walk", 9), ("score", 7)])
def test_every_shade_is_readable_in_light_and_dark(visit, scheme, tab, shades):
    states = {"walk": WALK, "score": "#score?A=fox&go=1"}
    page = visit(states[tab], color_scheme=scheme)
    keys = shown(page).locator(".legend .key")
    expect(keys).to_have_count(shades)
    contrasts = keys.evaluate_all(CONTRASTS)
    assert min(contrasts) >= 4.5, contrasts
    grounds = keys.evaluate_all("all => all.map((key) => getComputedStyle(key).backgroundColor)")
    assert len(set(grounds)) == shades


@pytest.mark.parametrize(
    "state",
    [
        WALK,
        pytest.param("#compare?length=16&steps=4&go=1", marks=SLOW),
        pytest.param("#fill", marks=SLOW),
        pytest.param("#repair", marks=SLOW),
        pytest.param("#score?A=the+quick+brown+fox&B=dog&go=1", marks=SLOW),
    ],
)
def test_nothing_is_wider_than_a_phone(visit, state):
    page = visit(state, viewport=PHONE, has_touch=True)
    if "go=1" in state:
        expect(shown(page).locator(".cell").first).to_be_visible()
    shown(page).locator("summary").first.click() if "score" not in state else None
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    wide = page.evaluate(
        """width => [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility())
        .filter((one) => one.getBoundingClientRect().right > width + 1)
        .map((one) => one.className || one.tagName)""",
        PHONE["width"],
    )
    assert wide == []


def test_what_a_model_writes_is_text_and_never_html(visit):
    page = visit("#walk")
    hostile = "<img/src=x/onerror=\"document.body.dataset.broken='1'\">"
    frame = {
        "step": 0, "calls": 1, "bits": 0.0, "seconds": 0.1, "snr": [1.0], "tokens": [hostile],
        "known": [False], "p": [0.5], "top": [[[hostile, 0.5], ["<script>", 0.2]]],
    }  # fmt: skip
    start = {"length": 1, "steps": 1, "places": [{"text": "", "known": False}]}
    done = {"text": hostile, "calls": 1, "bits": 1.0, "seconds": 0.1}
    events = "".join(
        f"event: {name}\ndata: {json.dumps(data)}\n\n"
        for name, data in (("start", start), ("frame", frame), ("done", done))
    )
    page.route("**/api/walk", lambda route: route.fulfill(
        content_type="text/event-stream", body=events))  # fmt: skip
    button(page, "Walk").click()
    ended(page)
    cell = shown(page).locator(".cell")
    cell.hover()
    assert page.get_by_role("tooltip").locator("th").first.text_content() == hostile
    cell.click()
    page.get_by_role("dialog").locator(".likely").first.click()
    expect(page.locator(".edits li")).to_contain_text(hostile)
    assert page.locator("img, body script").count() == 0
    assert page.evaluate("document.body.dataset.broken") is None


def test_nothing_is_fetched_from_elsewhere(visit, served):
    page = visit()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_selector("body[data-ready]")
    for tab in ("Compare", "Fill", "Repair", "Score", "Walk"):
        page.get_by_role("tab", name=tab).click()
    button(page, "Walk").click()
    ended(page)
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith(served.address)] == []


@pytest.mark.slow
def test_the_page_is_there_within_a_second(visit):
    ready = "() => performance.getEntriesByName('ready')[0].startTime"
    # Since each navigation began, nothing of the page kept by the browser. Other work on the
    # machine only ever adds to it, so the least of several is the page's own.
    waited = [visit().evaluate(ready) for _ in range(8)]
    assert min(waited) < 1000, waited


def test_the_browser_need_not_follow_imports_to_know_every_module():
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'href="/static/(\w+\.js)"', page)) | {"main.js"} == {
        module.name for module in STATIC.glob("*.js")
    }


@pytest.mark.slow
def test_frames_are_painted_while_the_walk_is_computed(visit):
    page = visit()
    field(page, "Length").fill("128")
    field(page, "Steps").fill("128")
    field(page, "Path").select_option("masked")
    button(page, "Walk").click()
    ended(page)
    painted = page.evaluate(
        """() => performance.getEntriesByName("painted").map(({ detail }) => detail)"""
    )
    steps = [frame["step"] for frame in painted]
    assert steps == sorted(set(steps))
    assert len(steps) > 10, "frames were shown as they came, not all at the end"
    delays = sorted(frame["delay"] for frame in painted)
    # A screen shows 60 frames a second; beside other work a fifth of a second is a page in time.
    assert 0 < delays[len(delays) // 2] < 200, delays


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_a_closed_tab_ends_its_walk(visit, served):
    def used():
        fields = (
            Path(f"/proc/{served.process}/stat").read_text(encoding="ascii").split(")")[1].split()
        )
        return int(fields[11]) + int(fields[12])

    page = visit("#walk?length=512&steps=1024&policy=curvature&go=1")
    expect(shown(page).locator(".cell").first).to_be_visible()
    page.context.close()
    time.sleep(0.5)
    before = used()
    time.sleep(1)
    # A walk that went on would take most of a second, a hundred ticks.
    assert used() - before < 20
