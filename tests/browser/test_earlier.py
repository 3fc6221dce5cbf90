"""The questions that were asked in this browser."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Browser, Route, expect

from tests.browser.conftest import TOKEN
from tests.browser.test_answers import give_token
from tests.browser.visit import Visit, visiting

KEY = "nda-index:questions:/"  # the service of the tests is at the root of its host
BLOCKED = """for (const area of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, area, { get() { throw new DOMException("denied", "SecurityError"); } });"""
ROWS = "#earlier-list li"


def kept(visit: Visit) -> Any:
    """What the browser keeps."""
    return json.loads(visit.page.evaluate(f"localStorage.getItem('{KEY}')") or "[]")


def keep(visit: Visit, text: str) -> None:
    """Have the browser keep something from the next page on."""
    visit.open()
    visit.page.evaluate(f"(text) => localStorage.setItem('{KEY}', text)", text)


def question(number: int) -> dict[str, object]:
    """A question as it is kept."""
    return {"id": f"{number:032x}", "headline": f"Headline {number}", "date": 1_750_000_000_000 - number}


def test_from_question_to_question(visit: Visit, collage: bytes) -> None:
    page = visit.page
    visit.ask(collage)
    first = page.url
    page.get_by_role("link", name="One picture").click()
    page.get_by_role("button", name="Ask about image 24").click()
    visit.wait_for_answer()
    page.get_by_role("link", name="One picture").click()
    rows = page.locator(ROWS)
    expect(rows.locator(".key")).to_have_text(["One strong match", "Two strong matches"])
    for picture in rows.locator("img").all():
        expect(picture).not_to_have_js_property("naturalWidth", 0)
    expect(rows.first.locator(".date")).to_contain_text("20")  # of the year
    assert [set(one) for one in kept(visit)] == [{"id", "headline", "date"}] * 2
    assert page.evaluate("Object.keys(localStorage)") == [KEY]

    rows.nth(1).get_by_role("link").click()
    visit.wait_for_answer()
    assert page.url == first
    expect(page.locator("#verdict")).to_have_text("Two strong matches")
    expect(page.locator("#earlier")).to_be_hidden()
    page.go_back()
    expect(rows).to_have_count(2)
    visit.give(collage)  # the same question is kept once
    visit.wait_for_answer()
    page.get_by_role("link", name="One picture").click()
    expect(rows.locator(".key")).to_have_text(["Two strong matches", "One strong match"])

    page.get_by_role("button", name="Forget these").click()
    expect(page.locator("#earlier")).to_be_hidden()
    expect(page.locator("#file")).to_be_focused()
    assert page.evaluate("localStorage.length") == 0
    page.reload()
    expect(page.locator("#version")).not_to_be_empty()
    expect(page.locator("#earlier")).to_be_hidden()


def test_an_answer_that_is_gone_is_taken_off(visit: Visit) -> None:
    page, rows = visit.page, visit.page.locator(ROWS)
    keep(visit, json.dumps([question(1), question(2)]))
    page.route(f"**/{1:032x}/query.png", lambda route: route.abort())
    visit.expected.add(404)
    visit.page.reload()
    expect(rows.nth(1)).to_contain_text("no longer kept")  # its picture is asked for
    expect(rows.nth(1).get_by_role("link")).to_have_count(0)
    rows.first.get_by_role("link").click()
    expect(page.get_by_role("alert")).to_contain_text("It is taken off your earlier questions.")
    expect(rows.first).to_contain_text("no longer kept")
    assert kept(visit) == []
    page.get_by_role("link", name="One picture").click()
    expect(page.locator("#earlier")).to_be_hidden()


def test_fifty_are_kept_and_few_pictures_fetched(visit: Visit, collage: bytes) -> None:
    page, rows = visit.page, visit.page.locator(ROWS)
    keep(visit, json.dumps([question(number) for number in range(50)]))
    asked: list[str] = []

    def give(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(body=collage, content_type="image/png")

    page.route("**/query.png", give)
    visit.ask(collage)
    asked.clear()
    page.get_by_role("link", name="One picture").click()
    expect(rows.filter(visible=True)).to_have_count(6)
    expect(rows.first).to_contain_text("Two strong matches")
    for picture in rows.filter(visible=True).locator("img").all():
        expect(picture).not_to_have_js_property("naturalWidth", 0)
    assert len(asked) == 6
    page.get_by_role("button", name="Show all 50").click()
    expect(rows.filter(visible=True)).to_have_count(50)
    expect(rows.nth(6).get_by_role("link")).to_be_focused()
    expect(page.get_by_role("button", name="Show all")).to_be_hidden()
    assert [one["headline"] for one in kept(visit)[1:]] == [f"Headline {number}" for number in range(49)]


def test_nothing_is_kept_where_the_browser_keeps_nothing(visit: Visit, collage: bytes) -> None:
    visit.page.add_init_script(BLOCKED)
    visit.ask(collage)
    visit.page.get_by_role("link", name="One picture").click()
    expect(visit.page.locator("#intake")).to_be_visible()
    expect(visit.page.locator("#earlier")).to_be_hidden()


def test_what_others_keep_there_is_passed_over(visit: Visit) -> None:
    for text in ("{", "3", "[null]", '[{"id": "../../x", "headline": "A", "date": 1}]', '[{"id": "ab", "date": 1}]'):
        keep(visit, text)
        visit.page.reload()
        expect(visit.page.locator("#version")).not_to_be_empty()
        expect(visit.page.locator("#earlier")).to_be_hidden()


def test_a_protected_service_shows_pictures_too(browser: Browser, protected_service: str, collage: bytes) -> None:
    with visiting(browser, protected_service) as visit:
        visit.expected.add(401)
        visit.page.goto(protected_service)
        give_token(visit.page, TOKEN)
        visit.page.locator("#version:not(:empty)").wait_for()
        visit.expected.clear()
        visit.give(collage)
        visit.wait_for_answer()
        visit.page.get_by_role("link", name="One picture").click()
        expect(visit.page.locator(f"{ROWS} img")).not_to_have_js_property("naturalWidth", 0)
        visit.page.locator(f"{ROWS} a").click()
        visit.wait_for_answer()
