"""Rules of accessibility, checked by axe-core, and narrow screens."""

from __future__ import annotations

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.visit import visiting

SMALL = """() => [...document.querySelectorAll("a, button, summary, select, label.button, [role=tab]")]
  .filter((it) => it.checkVisibility() && Math.min(it.getBoundingClientRect().width, it.offsetHeight) < 24)
  .map((it) => it.outerHTML)"""  # narrower or lower than 24 pixels, as WCAG 2.2 asks


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_accessibility(browser: Browser, service: str, collage: bytes, width: int, dark: bool) -> None:
    with visiting(browser, service, width, dark) as visit:
        page = visit.page
        visit.ask(collage)
        visit.add_condition(0, "label", "is", "cat")
        page.locator("#answer details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
        check_accessibility(page)
        page.go_back()
        page.locator("#earlier").scroll_into_view_if_needed()  # its pictures are fetched when they are near
        expect(page.locator("#earlier-list img")).not_to_have_js_property("naturalWidth", 0)
        check_accessibility(page)
        visit.expected.add(404)
        page.goto(f"{visit.address}/#r={'0' * 32}")
        expect(page.get_by_role("alert")).to_be_visible()
        check_accessibility(page)


@pytest.mark.parametrize("width", [390, 1440])
def test_accessibility_of_the_question_for_a_token(browser: Browser, protected_service: str, width: int) -> None:
    with visiting(browser, protected_service, width) as visit:
        visit.expected.add(401)
        visit.page.goto(protected_service)
        expect(visit.page.get_by_label("Access token")).to_be_focused()
        check_in_both_schemes(visit.page)


@pytest.mark.parametrize("width", [390, 1440])
def test_controls_are_large_enough_to_hit(browser: Browser, service: str, collage: bytes, width: int) -> None:
    with visiting(browser, service, width) as visit:
        visit.open()
        assert visit.page.evaluate(SMALL) == []
        visit.ask(collage)
        visit.page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
        assert visit.page.locator("#exports a").count() == 4
        assert visit.page.evaluate(SMALL) == []


def test_nothing_is_shown_by_colour_alone(browser: Browser, service: str, collage: bytes) -> None:
    with visiting(browser, service) as visit:
        visit.page.emulate_media(forced_colors="active")
        visit.ask(collage)
        visit.page.locator("#query-figure [data-cell='9']").click()
        assert differ(visit.page, "#scales [aria-selected='true']", "#scales [aria-selected='false']", "borderBottom")
        assert differ(visit.page, ".line:has([aria-current])", ".line:not(:has([aria-current]))", "outline")
        assert differ(visit.page, "#query-figure .marked", "#query-figure .region:not(.marked)", "outline")
        assert differ(visit.page, ".share-bar .filled", ".share-bar", "backgroundColor")


def differ(page: Page, one: str, other: str, style: str) -> bool:
    """Whether a style of two elements, each the first that a selector finds, is not the same."""
    script = "(it, style) => getComputedStyle(it)[style]"
    return bool(page.locator(one).first.evaluate(script, style) != page.locator(other).first.evaluate(script, style))


def check_accessibility(page: Page) -> None:
    """Check the page as it is now, and that nothing of it lies beyond its edges."""
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def check_in_both_schemes(page: Page) -> None:
    """Check the page in light and dark colours."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        check_accessibility(page)
