"""From a picture to an answer that is stored, shared and asked about again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import COPIES, COUNT, TOKEN
from tests.browser.visit import LIT, Visit, key, png, visiting


def test_from_drop_to_shared_link(visit: Visit, browser: Browser, collage: bytes) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.open()
    visit.gesture("drop", collage)
    visit.wait_for_answer()
    found = visit.keys()
    assert set(found[:2]) == {key(0), key(7)}
    expect(visit.page.locator("#verdict")).to_have_text("Two strong matches")
    expect(visit.page.locator("#verdict")).to_be_focused()
    assert "/#r=" in visit.page.url

    visit.page.get_by_role("button", name="Copy link").click()
    expect(visit.page.get_by_role("button", name="Copied")).to_be_visible()
    shared = visit.page.evaluate("navigator.clipboard.readText()")
    assert shared == visit.page.url
    with visiting(browser, visit.address) as other:
        other.open(shared.removeprefix(visit.address))
        other.wait_for_answer()
        assert other.keys() == found
        expect(other.page.locator("#verdict")).to_have_text("Two strong matches")
        # The answer brings its picture along: it can be compared again.
        other.page.get_by_label("Compare", exact=True).select_option("one depth, chosen below")
        other.page.locator("#timestep").press("ArrowLeft")
        other.compare_again()
        expect(other.page.locator("#compared")).to_contain_text("t = 75")
        other.wait_for_answer()
        assert other.keys()[0] in found[:2]


def test_paste(visit: Visit, collage: bytes) -> None:
    visit.open()
    visit.gesture("paste", collage)
    visit.wait_for_answer()
    assert len(visit.keys()) == 10


def test_example_then_use_as_query_then_back(visit: Visit) -> None:
    visit.open()
    visit.page.get_by_role("button", name="Ask about image 24").click()
    visit.wait_for_answer()
    first = visit.keys()
    assert first[0] == key(24)
    line = visit.page.locator(".line").nth(1)
    line.hover()
    line.get_by_role("button", name="as query").click()
    expect(visit.page.locator("#matches .key").first).to_have_text(first[1])
    visit.page.go_back()
    expect(visit.page.locator("#matches .key").first).to_have_text(key(24))
    visit.page.go_back()
    expect(visit.page.get_by_role("heading", name="Where does this picture come from?")).to_be_visible()


def test_figures_tell_their_uncertainty(visit: Visit, collage: bytes) -> None:
    visit.ask(collage)
    answer = json.loads(visit.page.evaluate("fetch(`/v1/results/${location.hash.slice(3)}`).then((it) => it.text())"))
    best = answer["images"][0]
    expect(visit.page.locator("#matches .share").first).to_have_text(f"{100 * best['share']:.1f}%")
    expect(visit.page.locator("#figures")).to_contain_text(f"{100 * answer['mass_covered']:.1f}%")
    expect(visit.page.locator("#complete")).to_contain_text(f"{answer['collection']} images were compared in every")


def test_near_duplicates_are_grouped(visit: Visit, collection: NDArray[np.uint8]) -> None:
    visit.ask(png(collection[0]))
    copies = visit.page.locator("#matches details")
    expect(copies.locator("summary").first).to_contain_text(f"{COPIES} near-duplicates")
    expect(copies.first.locator(".line").first).to_be_hidden()
    copies.locator("summary").first.click()
    names = copies.first.locator(".key").all_text_contents()
    assert set(names) <= {key(0), *(key(COUNT + number) for number in range(COPIES))}
    expect(copies.first.locator(".line").first).to_be_visible()


def test_files(visit: Visit, collage: bytes, tmp_path: Path) -> None:
    visit.ask(collage)
    starts = {"Report": b"<!doctype html>", "Picture": b"\x89PNG", "JSON": b"{", "Parquet": b"PAR1"}
    for name, start in starts.items():
        with visit.page.expect_download() as download:
            visit.page.get_by_role("link", name=name, exact=True).click()
        download.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


def test_token(browser: Browser, protected_service: str, collage: bytes, tmp_path: Path) -> None:
    with visiting(browser, protected_service) as visit:
        visit.expected.add(401)
        page = visit.page
        page.goto(protected_service)
        give_token(page, "a wrong one")
        expect(page.locator("#token-words")).to_contain_text("does not accept")
        give_token(page, TOKEN)
        page.locator("#version:not(:empty)").wait_for()
        visit.expected.clear()
        visit.give(collage)
        visit.wait_for_answer()
        page.locator("#query-figure [data-cell='10']").hover()
        page.locator(f"#train-figure {LIT}").wait_for()
        with page.expect_download() as download:
            page.get_by_role("link", name="JSON").click()
        download.value.save_as(tmp_path / "answer.json")
        assert len(json.loads((tmp_path / "answer.json").read_text())["images"]) == 10
        page.reload()  # the tab remembers the token
        visit.wait_for_answer()


def give_token(page: Page, token: str) -> None:
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Continue").click()
