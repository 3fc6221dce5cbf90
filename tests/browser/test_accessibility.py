"""Rules of accessibility, checked by axe-core, and narrow screens."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser.visit import visiting


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


def check_accessibility(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious] == []
