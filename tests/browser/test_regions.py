"""Regions that belong together light up: by pointer, by keyboard, for each scale."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import Page, expect

from tests.browser.visit import LIT, Visit, key


def test_pointing_lights_what_belongs_together(visit: Visit, collage: bytes) -> None:
    visit.ask(collage)
    page = visit.page
    chosen = page.locator("#train-figure figcaption bdi").text_content()
    upper = chosen == key(0)  # the half of the query that is this image
    cell = 10 if upper else 50
    page.locator(f"#query-figure [data-cell='{cell}']").hover()
    page.locator(f"#train-figure {LIT}").wait_for()
    expect(page.locator("#readout")).to_contain_text("Of what the images shown hold in this region")
    veils = page.locator("#train-figure .region").evaluate_all(
        "(cells) => cells.map((cell) => Number(cell.style.getPropertyValue('--veil')))"
    )
    assert abs(int(np.argmin(veils)) - cell) in (0, 1, 8, 7, 9) and max(veils) > 0.7
    expect(page.locator(f"#matches {LIT}")).to_have_count(10)

    page.locator(f"#train-figure [data-cell='{cell}']").hover()
    page.locator(f"#query-figure {LIT}").wait_for()
    expect(page.locator(f"#train-figure {LIT}")).to_have_count(0)
    expect(page.locator("#readout")).to_contain_text("is found in")

    page.locator("#verdict").hover()
    expect(page.locator(LIT)).to_have_count(0)
    page.locator(f"#matches [data-rank='1'] [data-cell='{cell}']").hover()
    page.locator(f"#query-figure {LIT}").wait_for()
    expect(page.locator("#readout")).to_contain_text("This region of image 1")


def test_a_click_holds_a_region(visit: Visit, collage: bytes) -> None:
    visit.ask(collage)
    visit.page.locator("#query-figure [data-cell='10']").click()
    visit.page.locator("#verdict").hover()
    visit.page.locator(f"#train-figure {LIT}").wait_for()
    visit.page.locator("#query-figure [data-cell='10']").click()
    visit.page.locator("#verdict").hover()
    expect(visit.page.locator(f"#train-figure {LIT}")).to_have_count(0)


def test_keyboard(visit: Visit, collage: bytes) -> None:
    page = visit.page
    page.on("filechooser", lambda chooser: None)  # Chromium tells of them only some time after the first listener
    visit.open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    assert (
        page.locator("label.button[for='file']").last.evaluate("(it) => getComputedStyle(it).outlineStyle") == "solid"
    )
    visit.give(collage)
    visit.wait_for_answer()

    page.get_by_role("button", name="Another picture").focus()
    with page.expect_file_chooser():
        page.keyboard.press("Enter")

    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    assert "/#r=" in page.url  # the address still names the answer

    page.locator("#copy-link").focus()
    for _ in range(5):  # past the four files
        page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_attribute("aria-label", "Row 1, column 1")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(focused).to_have_attribute("aria-label", "Row 2, column 2")
    page.locator(f"#train-figure {LIT}").wait_for()
    expect(page.locator("#live")).to_contain_text("Of what the images shown hold in this region")
    page.keyboard.press("Escape")
    expect(page.locator(f"#train-figure {LIT}")).to_have_count(0)
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    expect(focused).to_have_attribute("aria-label", "Row 8, column 8")
    expect(page.locator("#live")).to_contain_text("This region of image")

    page.get_by_role("tab", name="All patches").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", selected=True)).to_have_text("4 px patches")

    page.locator(".pick").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".pick[aria-current]")).to_have_count(1)
    expect(page.locator("#train-figure bdi")).to_have_text(visit.keys()[1])


def test_scales_and_heat_map(visit: Visit, collage: bytes) -> None:
    visit.ask(collage)
    page = visit.page
    expect(page.get_by_role("tab")).to_have_text(["All patches", "4 px patches", "10 px patches, coarse"])
    page.get_by_role("tab", name="10 px patches, coarse").click()
    expect(page.locator("#query-figure .heat")).to_have_attribute("src", map_path(page, "p10r2"))
    page.locator("#query-figure [data-cell='10']").hover()
    with page.expect_response(lambda response: "/links/" in response.url and "scale=p10r2" in response.url):
        page.locator("#query-figure [data-cell='11']").hover()
    page.mouse.move(1, 1)
    for stroke, opacity in (("Home", "0"), ("End", "1")):
        page.locator("#opacity").press(stroke)
        expect(page.locator("#query-figure .heat")).to_have_css("opacity", opacity)


def map_path(page: Page, scale: str) -> str:
    identity = page.url.rpartition("=")[2]
    rank = page.locator("#train-figure .rank").text_content()
    return f"/v1/results/{identity}/maps/{rank}/query.png?scale={scale}"
