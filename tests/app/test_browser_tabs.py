"""The tabs Compare, Fill, Repair and Score in a real browser, and what can be shared of each."""

import json
import re

import pytest
from browsing import bodies, button, expect, field, go_to, letters, shades, shown

pytestmark = pytest.mark.bulk


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()
    return shown(page)


def test_the_same_walk_twice_is_the_same_and_another_path_is_not(visit):
    page = visit("#compare?length=16&steps=8&pathA=masked&pathB=masked&go=1")
    expect(page.locator("#status")).to_contain_text("A: ")
    expect(page.locator("#status")).to_contain_text("B: ")
    first, second = shown(page).locator(".stage").all()
    assert first.locator(".letter").count() == 16
    for step in (8, 3):
        go_to(page, step)
        texts = [stage.locator(".letter").all_text_contents() for stage in (first, second)]
        assert texts[0] == texts[1]
    page.locator("[name=pathB]").nth(0).select_option("diffusion")
    sent = bodies(page)
    button(page, "Compare").click()
    expect(page.locator("#status")).to_contain_text("A: ")
    go_to(page, 3)
    assert first.locator(".cell.snr-0").count() > 0
    assert second.locator(".cell.snr-0").count() == 0
    assert [body["path"] for body in sent] == ["masked", "diffusion"]
    assert sent[0]["seed"] == sent[1]["seed"]


@pytest.mark.slow
def test_two_models_are_compared_on_one_prompt(visit):
    page = visit("#compare?prompt=the+&length=16&steps=4")
    page.locator("[name=modelB]").select_option("run-2")
    sent = bodies(page)
    button(page, "Compare").click()
    expect(page.locator("#status")).to_contain_text("B: ")
    assert [body["model"] for body in sent] == ["run", "run-2"]
    headings = shown(page).locator("h2").all_text_contents()
    assert [text.split(" · ")[1] for text in headings] == ["run", "run-2"]


def test_blanks_are_filled_under_constraints_the_most_probable_answer_first(visit):
    page = visit()
    tab = open_tab(page, "Fill")
    field(page, "Text with blanks").fill("the {2-4} fox")
    field(page, "Constraints").fill("1:a-e")
    field(page, "Answers").fill("4")
    field(page, "Draws").fill("8")
    button(page, "Fill").click()
    expect(tab.locator(".answers li").first).to_be_visible()
    answers = tab.locator(".answers li").all()
    assert 1 < len(answers) <= 4
    bits = [float(answer.locator(".figures").text_content().split()[0]) for answer in answers]
    assert bits == sorted(bits)
    for answer in answers:
        filled = answer.locator(".cell.filled .letter").all_text_contents()
        assert 2 <= len(filled) <= 4
        assert set(filled) <= set("abcde")
        assert (
            "".join(answer.locator(".letter").all_text_contents()) == f"the␣{''.join(filled)}␣fox"
        )


def test_doubtful_characters_are_shaded_and_each_change_is_accepted_or_refused(visit):
    page = visit()
    read = "tjhe uqic"
    answer = {
        "text": "the quick", "read": read, "snr": 7.0, "threshold": 0.5, "denoiser_calls": 3,
        "error_rate": 0.1, "seconds": 0.1, "notes": [],
        "changes": [
            {"position": 1, "from": "j", "to": "", "probability": 0.9},
            {"position": 5, "from": "u", "to": "q", "probability": 0.7},
            {"position": 6, "from": "q", "to": "u", "probability": 0.7},
            {"position": 9, "from": "", "to": "k", "probability": 0.8},
        ],
        "places": [
            {"position": n, "text": letter, "probability": 0.001 if letter == "j" else 0.9,
             "likely": [["h", 0.6], ["e", 0.2]]}
            for n, letter in enumerate(read)
        ],
    }  # fmt: skip
    events = f"event: done\ndata: {json.dumps(answer)}\n\n"
    page.route(
        "**/api/correct",
        lambda route: route.fulfill(content_type="text/event-stream", body=events),
    )
    tab = open_tab(page, "Repair")
    field(page, "Text").fill(read)
    button(page, "Repair").click()
    repaired = tab.get_by_label("The repaired text")
    expect(repaired).to_have_text("the quick")
    assert shades(page, "bits", ".cells") == [0, 6, 0, 0, 0, 0, 0, 0, 0]
    boxes = tab.get_by_role("checkbox")
    expect(boxes).to_have_count(3)  # Two neighbours that change places are one decision.
    boxes.nth(0).uncheck()
    expect(repaired).to_have_text("tjhe quick")
    expect(page).to_have_url(re.compile("refused=0"))
    tab.locator(".cell").nth(8).click()
    expect(repaired).to_have_text("tjhe quic")
    tab.locator(".cell").nth(5).click()
    expect(repaired).to_have_text(read)
    button(page, "Accept all").click()
    expect(repaired).to_have_text("the quick")
    button(page, "Refuse all").click()
    expect(repaired).to_have_text(read)


@pytest.mark.slow
def test_what_the_model_proposes_is_what_the_command_line_makes_of_it(visit):
    page = visit("#repair?text=teh+quikc+bron+fxo&go=1")
    expect(shown(page).locator(".figures")).to_contain_text("proposed")
    with page.expect_download() as download:
        button(page, "Download as JSON").click()
    told = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert told["read"] == "teh quikc bron fxo"
    assert "".join(place["text"] for place in told["places"]) == told["read"]
    assert told["result"] == told["text"]
    expect(shown(page).get_by_label("The repaired text")).to_have_text(told["text"])


def test_every_token_of_two_texts_is_coloured_by_its_bits(visit):
    page = visit()
    tab = open_tab(page, "Score")
    field(page, "Text A").fill("the quick")
    field(page, "Text B").fill("zzz")
    button(page, "Score").click()
    expect(tab.locator(".stage")).to_have_count(2)
    for stage in tab.locator(".stage").all():
        told = float(stage.locator(".figures").text_content().split()[0])
        tokens = stage.locator(".cell").evaluate_all("all => all.map((c) => c.ariaLabel)")
        bits = [float(text.split(", ")[1].split()[0].replace("−", "-")) for text in tokens]
        assert sum(bits) == pytest.approx(told, abs=0.01 * len(bits))
        shade = [sum(value > end for end in (0.5, 1, 2, 3, 5, 8)) for value in bits]
        names = stage.locator(".cell").evaluate_all("all => all.map((c) => c.className)")
        assert [f"bits-{n}" in name for n, name in zip(shade, names, strict=True)]
    assert letters(page) == [*"the␣quick", *"zzz"]
    expect(tab.locator(".figures").first).to_contain_text("is more probable by")


def labels(page):
    """What every cell says."""
    return shown(page).locator(".cell").evaluate_all("all => all.map((c) => c.ariaLabel)")


STATES = {
    "walk": "#walk?prompt=the+&length=16&steps=8&path=diffusion&seed=3&at=5&go=1&edits="
    "%5B%7B%22step%22%3A4%2C%22place%22%3A6%2C%22do%22%3A%22fix%22%2C%22token%22%3A%22q%22%7D%5D",
    "compare": "#compare?length=16&steps=8&pathA=masked&pathB=diffusion&at=2&go=1",
    "fill": "#fill?template=the+___+fox&draws=4&go=1",
    "repair": "#repair?text=teh+quikc+fox&threshold=0.1&go=1",
    "score": "#score?A=the+fox&B=the+dog&go=1",
}


EVERY_STATE = pytest.mark.parametrize(
    "state",
    [
        pytest.param(state, id=tab, marks=() if tab == "walk" else pytest.mark.slow)
        for tab, state in STATES.items()
    ],
)


@EVERY_STATE
def test_a_state_of_the_page_is_in_its_address(visit, state):
    page = visit(state)
    expect(shown(page).locator(".cell").first).to_be_visible()
    expect(shown(page).get_by_role("button", name="Stop")).to_be_hidden()
    page.wait_for_timeout(300)
    before = labels(page)
    copied = page.url.split("/", 3)[3]
    other = visit(copied)
    expect(shown(other).get_by_role("button", name="Stop")).to_be_hidden()
    expect(shown(other).locator(".cell")).to_have_count(len(before))
    other.wait_for_timeout(300)
    assert (
        shown(other).locator(".cell").evaluate_all("all => all.map((c) => c.ariaLabel)") == before
    )
    assert other.url == page.url


@EVERY_STATE
def test_a_result_is_downloaded_as_text_as_json_and_as_a_picture(visit, state):
    page = visit(state)
    expect(shown(page).locator(".cell").first).to_be_visible()
    expect(shown(page).get_by_role("button", name="Stop")).to_be_hidden()
    contents = {}
    for name, ending in (("text", "txt"), ("JSON", "json"), ("a picture", "png")):
        with page.expect_download() as download:
            shown(page).get_by_role("button", name=f"Download as {name}").click()
        assert download.value.suggested_filename.endswith(f".{ending}")
        contents[ending] = download.value.path().read_bytes()
    assert contents["txt"].decode().strip()
    assert json.loads(contents["json"])
    assert contents["png"].startswith(b"\x89PNG")
    assert len(contents["png"]) > 2000


@pytest.mark.slow
def test_the_button_back_returns_to_the_state_before(visit):
    page = visit("#walk?length=16&steps=4&go=1")
    expect(shown(page).locator(".cell")).to_have_count(16)
    open_tab(page, "Score")
    field(page, "Text A").fill("fox")
    button(page, "Score").click()
    expect(shown(page).locator(".cell")).to_have_count(3)
    page.go_back()
    page.go_back()
    expect(shown(page).locator(".cell")).to_have_count(16)
    assert page.url.endswith("go=1")
