"""A whole visit without a mouse."""

from __future__ import annotations

from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.browser.visit import Visit

FARTHEST = 80  # places between two that are walked to


def walk(page: Page, target: Locator, key: str = "Tab") -> None:
    """Press a key until something has the focus, as it is there to be seen."""
    for _ in range(FARTHEST):
        page.keyboard.press(key)
        if target.evaluate("(it) => it === document.activeElement"):
            assert target.evaluate("(it) => it.matches(':focus-visible')")
            return
    raise AssertionError(f"{target} is not reached by {key}")


def choose(page: Page, field: Locator, *pictures: bytes) -> None:
    """Choose pictures by the keyboard."""
    walk(page, field)
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    payloads: list[FilePayload] = [
        {"name": f"{number}.png", "mimeType": "image/png", "buffer": picture} for number, picture in enumerate(pictures)
    ]
    chooser.value.set_files(payloads)


def press(page: Page, target: Locator, key: str = "Tab") -> None:
    """Walk to a link or a button and press it."""
    walk(page, target, key)
    page.keyboard.press("Enter")


def test_from_the_start_to_answers_and_jobs(visit: Visit, collage: bytes) -> None:
    page = visit.page
    page.on("filechooser", lambda chooser: None)  # Chromium tells of them only some time after the first listener
    visit.open()
    choose(page, page.locator("#file"), collage)
    visit.wait_for_answer()
    expect(page.locator("#verdict")).to_be_focused()
    first = page.url

    press(page, page.locator("#settings summary"), "Shift+Tab")
    walk(page, page.get_by_label("Mirror images count too"))
    page.keyboard.press("Space")
    press(page, page.get_by_role("button", name="Compare again"))
    expect(page.locator("#compared")).to_contain_text("mirrored too")
    visit.wait_for_answer()
    expect(page.locator("#verdict")).to_be_focused()
    assert page.url != first

    press(page, page.get_by_role("link", name="One picture"), "Shift+Tab")
    expect(page.locator("#earlier")).to_be_visible()
    press(page, page.locator("#earlier-list a").nth(1))
    visit.wait_for_answer()
    assert page.url == first
    expect(page.locator("#verdict")).to_be_focused()

    press(page, page.get_by_role("link", name="Many pictures"), "Shift+Tab")
    choose(page, page.locator("#files"), collage, collage)
    line = page.locator("#job-list li").first
    expect(line).to_contain_text("All done, 2 with a strong match.")
    walk(page, line.get_by_role("link", name="CSV"))
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith(".csv")
    press(page, line.get_by_role("button", name="Erase the results"))
    expect(page.locator("#no-jobs")).to_be_visible()
    expect(page.locator("#files")).to_be_focused()
