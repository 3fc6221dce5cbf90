"""Many pictures at once."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Route, expect

from tests.browser.conftest import TOKEN
from tests.browser.test_accessibility import SMALL, check_in_both_schemes
from tests.browser.visit import Visit, png, visiting


@pytest.fixture(params=[390, 1440])
def jobs(request: pytest.FixtureRequest, browser: Browser, service: str) -> Iterator[Visit]:
    """A visit to the jobs, on a narrow and a wide screen."""
    with visiting(browser, service, request.param) as visit:
        visit.open()
        visit.page.get_by_role("link", name="Many pictures").click()
        yield visit


def test_pictures_are_sent_followed_and_erased(jobs: Visit, collection: NDArray[np.uint8]) -> None:
    page = jobs.page
    files: list[Any] = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": png(collection[i])} for i in (3, 5)]
    files.append({"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.set_input_files("#files", files)
    line = page.locator("#job-list li").first
    expect(line).to_contain_text("All done, 2 with a strong match, 1 without an answer.")
    expect(line.locator(".title")).to_contain_text("3 pictures, sent ")
    check_in_both_schemes(page)
    assert page.evaluate(SMALL) == []
    with page.expect_download() as download:
        line.get_by_role("link", name="NDJSON").click()
    rows = [json.loads(row) for row in Path(download.value.path()).read_text().splitlines()]
    assert [row["question"] for row in rows] == ["3.png", "5.png", "broken.png"]
    line.get_by_role("button", name="Erase the results").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#no-jobs")).to_be_visible()
    page.get_by_role("link", name="One picture").click()
    expect(page.locator("#intake")).to_be_visible()
    expect(page.locator("#jobs")).to_be_hidden()


def test_pasted_pictures_are_a_job(visit: Visit, collection: NDArray[np.uint8]) -> None:
    """Several of them anywhere, and a single one where jobs are shown."""
    lines = visit.page.locator("#job-list li")
    visit.open()
    for number, place in ((2, "One picture"), (1, "Many pictures")):
        visit.page.get_by_role("link", name=place).click()
        expect(visit.page.get_by_role("link", name=place)).to_have_attribute("aria-current", "page")
        visit.gesture("paste", *(png(picture) for picture in collection[3 : 3 + number]))
        expect(lines.first).to_contain_text(f"{number} picture")
        expect(lines.first).to_contain_text(f"All done, {number} with a strong match")
    for left in (1, 0):
        lines.first.get_by_role("button", name="Erase the results").click()
        expect(lines).to_have_count(left)


def test_pictures_chosen_before_the_collection_is_known_are_sent(
    browser: Browser, service: str, collection: NDArray[np.uint8]
) -> None:
    with visiting(browser, service) as visit:
        held: list[Route] = []
        visit.page.route("**/v1/index", lambda route: held.append(route))
        with visit.page.expect_request("**/v1/index"):
            visit.page.goto(f"{visit.address}/#jobs")
        picture: Any = {"name": "7.png", "mimeType": "image/png", "buffer": png(collection[7])}
        visit.page.set_input_files("#files", [picture])
        held[0].continue_()
        line = visit.page.locator("#job-list li").first
        expect(line).to_contain_text("All done, 1 with a strong match.")
        line.get_by_role("button", name="Erase the results").click()
        expect(visit.page.locator("#no-jobs")).to_be_visible()


def test_an_archive_is_sent_with_a_token_and_refused_where_it_is_none(browser: Browser, protected_service: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(3):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = 5
            archive.addfile(info, io.BytesIO(b"wrong"))
    with visiting(browser, protected_service) as visit:
        visit.expected |= {400, 401}
        visit.page.goto(f"{visit.address}/#jobs")
        visit.page.get_by_label("Access token").fill(TOKEN)
        visit.page.get_by_role("button", name="Continue").click()
        tar: Any = {"name": "all.tar", "mimeType": "application/x-tar", "buffer": buffer.getvalue()}
        visit.page.set_input_files("#files", [tar])
        line = visit.page.locator("#job-list li").first
        expect(line).to_contain_text("All done, 0 with a strong match, 3 without an answer.")
        with visit.page.expect_download() as download:
            line.get_by_role("link", name="CSV").click()
        assert Path(download.value.path()).read_text().count("not a picture") == 3
        picture: Any = {"name": "a.png", "mimeType": "image/png", "buffer": b"a"}
        visit.page.set_input_files("#files", [tar, picture])
        expect(visit.page.get_by_role("alert")).to_contain_text("An archive is sent alone")
        visit.page.set_input_files("#files", [tar | {"buffer": b"no archive"}])
        expect(visit.page.get_by_role("alert")).to_contain_text("This archive cannot be read")
