"""The tab Walk in a real browser: one watches a walk, goes back and forth in it, and steers it."""

import re

import pytest
from browsing import (
    at_step,
    bodies,
    button,
    ended,
    expect,
    field,
    figures,
    go_to,
    letters,
    shades,
    shown,
)

pytestmark = pytest.mark.bulk

WALK = "#walk?length=16&steps=8&path=diffusion&go=1"


def test_a_walk_is_shown_from_no_evidence_to_all_tokens_decided(visit):
    page = visit()
    field(page, "Text").fill("the ")
    field(page, "Length").fill("16")
    field(page, "Steps").fill("8")
    field(page, "Path").select_option("diffusion")
    button(page, "Walk").click()
    ended(page)
    assert set(shades(page)) == {8}
    assert "".join(letters(page)).startswith("the␣")
    go_to(page, 0)
    assert shades(page) == [8] * 4 + [0] * 12
    seen = []
    for step in range(8):
        go_to(page, step)
        seen.append((max(shades(page)[4:]), *figures(page)))
    assert seen == sorted(seen), "SNR, steps, bits and calls never fall"
    assert len(set(seen)) == 8


def test_every_control_reaches_the_request(visit):
    page = visit("#walk?length=16")
    sent = bodies(page)
    chosen = {"Policy": "threshold", "Transition": "euler", "Corrector": "together"}
    for label, value in chosen.items():
        field(page, label).select_option(value)
    typed = {
        "Steps": 5,
        "Temperature": 0.5,
        "Seed": 7,
        "Corrector rounds": 1,
        "Policy's value": 0.8,
    }
    for label, value in typed.items():
        field(page, label).fill(str(value))
    field(page, "Text").fill("fox ____")
    field(page, "Model").select_option("run-2")
    button(page, "Walk").click()
    page.wait_for_selector(".cell")
    assert sent == [{
        "prompt": "fox ____", "model": "run-2", "length": 16, "steps": 5, "policy": "threshold:0.8",
        "transition": "euler", "temperature": 0.5, "seed": 7, "corrector": "together", "rounds": 1,
    }]  # fmt: skip
    # A policy that decides by itself follows no path.
    assert field(page, "Path").is_disabled()


@pytest.mark.slow
def test_one_steps_back_and_forth_and_replays_at_a_speed(visit):
    page = visit(WALK)
    ended(page)
    assert figures(page)[0] == 8
    button(page, "◂ Back").click()
    at_step(page, "7 / 8")
    button(page, "To the beginning").click()
    button(page, "Step ▸").click()
    at_step(page, "1 / 8")
    field(page, "Speed").select_option("10")
    page.evaluate(
        """() => { window.seen = []; const count = document.querySelector('.count');
        new MutationObserver(() => window.seen.push([count.textContent, performance.now()]))
          .observe(count, { childList: true }); }"""
    )
    button(page, "Play").click()
    at_step(page, "8 / 8")
    seen = page.evaluate("window.seen")
    counts = list(dict.fromkeys(name for name, _ in seen))
    assert counts == [f"{step} / 8" for step in range(1, 9)]
    times = dict(reversed(seen))
    assert times["8 / 8"] - times["2 / 8"] >= 6 * 100 * 0.9, "ten steps a second, no more"


@pytest.mark.slow
def test_a_walk_that_is_paused_stays_and_goes_on(visit):
    page = visit("#walk?length=128&steps=128&path=masked&go=1")
    page.wait_for_selector(".cell")
    button(page, "Pause").click()
    page.wait_for_timeout(200)
    count = shown(page).locator(".count")
    at = count.text_content().split(" /")[0]
    page.wait_for_timeout(300)
    assert count.text_content().split(" /")[0] == at
    assert f"&at={at}" in page.url or at == "128"
    button(page, "Play").click()
    at_step(page, "128 / 128")


def test_hovering_shows_the_five_likeliest_tokens_with_their_probabilities(visit):
    page = visit(f"{WALK}&at=3")
    at_step(page, "3 / 8")
    ended(page)
    page.locator(".stage .cell").nth(5).hover()
    tooltip = page.get_by_role("tooltip")
    rows = tooltip.locator("tr")
    assert rows.count() == 5
    probabilities = [float(text) for text in rows.locator("td.number").all_text_contents()]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1.003
    assert rows.nth(0).locator("th").text_content() == letters(page)[5]
    page.mouse.move(0, 0)
    assert tooltip.is_hidden()
    page.locator(".stage .cell").nth(5).click()
    page.get_by_role("dialog").wait_for()
    page.mouse.move(0, 0)
    page.locator(".stage .cell").nth(1).hover()
    assert tooltip.is_hidden(), "an open menu would be covered"


@pytest.mark.parametrize("how", ["likely", pytest.param("typed", marks=pytest.mark.slow)])
def test_a_token_that_is_fixed_stays_to_the_end_and_the_past_stays(visit, how):
    page = visit(WALK)
    ended(page)
    past = {}
    for step in (1, 4):
        go_to(page, step)
        past[step] = letters(page)
    # What is typed meanwhile is for the next walk.
    field(page, "Seed").fill("99")
    sent = bodies(page)
    page.locator(".stage .cell").nth(6).click()
    menu = page.get_by_role("dialog")
    if how == "typed":
        menu.get_by_label("Another token").fill("q")
        token = "q"
        menu.get_by_role("button", name="Fix", exact=True).click()
    else:
        second = menu.locator(".likely").nth(1)
        token = second.locator("b").text_content()
        second.click()
    ended(page)
    assert [(body["seed"], body["edits"][0]["token"]) for body in sent] == [(0, token)]
    assert figures(page)[0] == 4
    assert letters(page)[6] == token
    assert shades(page)[6] == 8
    go_to(page, 1)
    assert letters(page) == past[1]
    button(page, "To the last step").click()
    at_step(page, "8 / 8")
    assert letters(page)[6] == token
    assert page.locator(".edits li").text_content().startswith("step 4, place 7: fixed to")


@pytest.mark.slow
def test_a_blanked_token_has_no_evidence_and_is_decided_again(visit):
    page = visit(f"{WALK}&prompt=the+")
    ended(page)
    page.locator(".stage .cell").nth(1).click()
    button(page, "Blank").click()
    ended(page)
    assert shades(page) == [8, 0] + [8] * 14
    # No steps were left; the walk takes some more.
    button(page, "To the last step").click()
    expect(shown(page).locator(".count")).not_to_have_text("8 / 8")
    assert set(shades(page)) == {8}


@pytest.mark.slow
def test_a_lowered_token_goes_on_from_there_and_an_edit_can_be_taken_back(visit):
    page = visit(WALK)
    ended(page)
    go_to(page, 5)
    before = shades(page)
    page.locator(".stage .cell").nth(2).click()
    page.get_by_label("Lower SNR").fill("0.4")
    button(page, "Lower").click()
    ended(page)
    assert shades(page) == [*before[:2], 1, *before[3:]]
    assert "lower" in page.url
    page.get_by_role("button", name="Take this edit").click()
    ended(page)
    assert shades(page) == before
    assert "lower" not in page.url


@pytest.mark.slow
def test_a_walk_that_is_stopped_keeps_the_frames_that_have_come(visit):
    page = visit("#walk?length=256&steps=256&path=masked&go=1")
    expect(shown(page).locator(".figures")).to_contain_text(re.compile(r"step ([3-9]|\d\d)"))
    button(page, "Stop").click()
    expect(button(page, "Stop")).to_be_hidden()
    expect(button(page, "Play")).to_be_visible()
    last = int(shown(page).locator(".count").text_content().split(" / ")[1])
    page.wait_for_timeout(300)
    assert 3 <= last < 256
    button(page, "To the beginning").click()
    button(page, "To the last step").click()
    at_step(page, f"{last} / {last}")


def test_an_error_of_the_server_is_shown_as_its_sentence(visit):
    page = visit("#walk?prompt=%E2%82%AC&go=1", is_calm=False)
    problem = page.get_by_role("alert").first
    problem.wait_for()
    assert "€" in problem.text_content()
    assert "Traceback" not in problem.text_content()
    page.route("**/api/walk", lambda route: route.abort())
    button(page, "Walk").click()
    expect(problem).to_contain_text("does not answer")
