"""Rules of accessibility, checked by axe-core, and narrow screens."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser.visit import visiting

SMALL = """() => [...document.querySelectorAll("a, button, summary, select, label.button, [role=tab]")]
  .filter((it) => it.checkVisibility() && Math.min(it.getBoundingClientRect().width, it.offsetHeight) < 24)
  .map((it) => it.outerHTML)"""  # narrower or lower than 24 pixels, as WCAG 2.2 asks


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_accessibility(browser: Browser, service: str, collage: bytes, width: int, dark: bool) -> None:
    with visiting(browser, service, width, dark) as visit:
        visit.open()
        check_accessibility(visit.page)
        visit.ask(collage)
        visit.add_condition(0, "label", "is", "cat")
        visit.page.locator("#answer details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
        check_accessibility(visit.page)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


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
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious] == []
