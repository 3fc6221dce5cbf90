"""Regions of a photograph on the page, and a question about a part of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from nda_index.serve.tokens import Quota
from tests.browser.conftest import TOKEN, serving
from tests.browser.test_accessibility import check_in_both_schemes
from tests.browser.test_answers import give_token
from tests.browser.visit import Visit, png, visiting
from tests.pictures.scenes import pasted, scene

CROP = 60, 40, 240, 200


@pytest.fixture(scope="module")
def photograph_service(photograph_index_folder: Path) -> Iterator[str]:
    with serving(photograph_index_folder, {}) as address:
        yield address


@pytest.fixture
def visit(browser: Browser, photograph_service: str) -> Iterator[Visit]:
    with visiting(browser, photograph_service) as one:
        yield one


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A photograph with pieces of two that are indexed."""
    first = pasted(scene(5).crop(CROP), (20, 330), scene(40, (700, 560)))
    return pasted(scene(3).crop(CROP), (400, 100), first.picture).picture


def test_regions_are_shown_to_who_has_a_token(
    browser: Browser, photograph_index_folder: Path, picture: Image.Image
) -> None:
    tokens = {hashlib.sha256(TOKEN.encode()).hexdigest(): Quota()}
    with serving(photograph_index_folder, tokens) as address, visiting(browser, address) as visit:
        visit.expected.add(401)
        visit.page.goto(address)
        give_token(visit.page, TOKEN)
        visit.page.locator("#version:not(:empty)").wait_for()
        visit.expected.clear()  # no picture is asked for without the token
        visit.give(png(np.asarray(picture)))
        visit.wait_for_answer()
        for region in visit.page.locator("#pieces-list li").all():
            expect(region.locator("img")).not_to_have_js_property("naturalWidth", 0)
            expect(region.locator("image")).to_have_attribute("href", re.compile("^blob:"))


def test_a_part_is_dragged_and_asked_about(visit: Visit, picture: Image.Image) -> None:
    visit.ask(png(np.asarray(picture)))
    page = visit.page
    pieces = page.locator("#pieces-list li")
    expect(pieces.filter(has_text="05.png").first).to_be_visible()
    expect(page.locator("#pieces .part")).to_be_hidden()
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        check_in_both_schemes(page)
    page.locator("#pieces-whole svg").scroll_into_view_if_needed()
    box = page.locator("#pieces-whole svg").bounding_box()
    assert box is not None
    scale = box["width"] / picture.width
    page.mouse.move(box["x"] + 350 * scale, box["y"] + 50 * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + 500 * scale, box["y"] + 200 * scale)
    page.mouse.move(box["x"] + 650 * scale, box["y"] + 300 * scale)
    page.mouse.up()
    edges = [int(edge) for edge in page.locator("#region").input_value().split(",")]
    assert all(abs(edge - wanted) <= 3 for edge, wanted in zip(edges, (350, 50, 650, 300), strict=True))
    visit.compare_again()
    expect(pieces.first).to_contain_text("03.png")
    visit.wait_for_answer()
    expect(pieces.filter(has_text="05.png")).to_have_count(0)
    expect(page.locator("#pieces .part")).to_be_visible()

    visit.page.reload()  # the answer's own picture is asked about
    visit.wait_for_answer()
    expect(page.locator("#region")).to_have_value(", ".join(map(str, edges)))
    page.locator("#how").evaluate("(it) => { it.open = true; }")
    page.locator("details.more").evaluate("(it) => { it.open = true; }")
    page.locator("#region").fill("")
    visit.compare_again()
    expect(pieces.filter(has_text="05.png").first).to_be_visible()
