"""The whole way through the page, in Chromium."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import COPIES, COUNT, TOKEN, Visit, png, visiting

LIT = "#train-figure .regions.lit"

# Drops or pastes a file as a person does: Playwright has no such gesture.
GIVE = """([kind, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "picture.png", {type: "image/png"}));
    const event = kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true})
        : new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
    document.body.dispatchEvent(event);
}"""


def test_from_drop_to_shared_link(visit: Visit, browser: Browser, collage: bytes) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.open()
    visit.page.evaluate(GIVE, ["drop", base64.b64encode(collage).decode()])
    visit.answered()
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
        other.answered()
        assert other.keys() == found
        expect(other.page.locator("#verdict")).to_have_text("Two strong matches")
        # The answer brings its picture along: it can be compared again.
        other.page.locator("#timestep").press("ArrowLeft")
        other.page.get_by_role("button", name="Compare again").click()
        expect(other.page.locator("#asked")).to_contain_text("t = 75")
        other.answered()
        assert other.keys()[0] in found[:2]


def test_figures_tell_their_uncertainty(visit: Visit, collage: bytes) -> None:
    ask(visit, collage)
    answer = json.loads(visit.page.evaluate("fetch(`/v1/results/${location.hash.slice(3)}`).then((it) => it.text())"))
    best = answer["images"][0]
    expect(visit.page.locator("#matches .share").first).to_have_text(f"{100 * best['share']:.1f}%")
    expect(visit.page.locator("#figures")).to_contain_text(f"{100 * answer['mass_covered']:.1f}%")
    expect(visit.page.locator("#complete")).to_contain_text(f"{answer['collection']} images were compared in every")


def test_paste(visit: Visit, collage: bytes) -> None:
    visit.open()
    visit.page.evaluate(GIVE, ["paste", base64.b64encode(collage).decode()])
    visit.answered()
    assert len(visit.keys()) == 10


def test_example_then_use_as_query_then_back(visit: Visit) -> None:
    visit.open()
    visit.page.get_by_role("button", name="Ask about image 24").click()
    visit.answered()
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


def test_near_duplicates_are_grouped(visit: Visit, collection: NDArray[np.uint8]) -> None:
    ask(visit, png(collection[0]))
    copies = visit.page.locator("#matches details")
    expect(copies.locator("summary").first).to_contain_text(f"{COPIES} near-duplicates")
    expect(copies.first.locator(".line").first).to_be_hidden()
    copies.locator("summary").first.click()
    names = copies.first.locator(".key").all_text_contents()
    assert set(names) <= {key(0), *(key(COUNT + number) for number in range(COPIES))}
    expect(copies.first.locator(".line").first).to_be_visible()


def test_filters(visit: Visit, browser: Browser, collage: bytes) -> None:
    ask(visit, collage)
    page = visit.page
    add_condition(page, 0, "label", "is", "it's 100%")
    add_condition(page, 1, "year", "is at least", "2002")
    add_condition(page, 2, "sold", "is true", None)
    page.get_by_role("button", name="Compare again").click()
    expect(page.locator("#asked")).to_contain_text("only where")
    visit.answered()
    kept = [number for number in range(COUNT + COPIES) if number % 6 == 2 and 2000 + number // 20 >= 2002]
    assert visit.keys() and set(visit.keys()) <= {key(number) for number in kept}
    expect(page.locator("#asked")).to_contain_text(f"Compared with {len(kept)} images")
    expect(page.locator("#conditions li")).to_have_count(3)
    # Whoever opens the link sees the condition, and can take it away.
    with visiting(browser, visit.address) as other:
        other.open(page.url.removeprefix(visit.address))
        other.answered()
        expect(other.page.locator("#conditions code")).to_contain_text("it''s 100%")
        other.page.get_by_role("button", name="Remove this condition").click()
        other.page.get_by_role("button", name="Compare again").click()
        expect(other.page.locator("#asked")).to_contain_text(f"Compared with {COUNT + COPIES} images")
        other.answered()


def test_a_condition_needs_a_value_of_its_kind(visit: Visit, collage: bytes) -> None:
    ask(visit, collage)
    add_condition(visit.page, 0, "year", "is", "soon")
    visit.page.get_by_role("button", name="Compare again").click()
    assert visit.page.evaluate("document.activeElement.validationMessage").startswith("Give a value")
    expect(visit.page.locator("#asked")).not_to_contain_text("only where")


@pytest.mark.parametrize(
    ("kind", "operator", "value", "sql"),
    [
        ("string", "=", "O'Neil' OR 1=1 --", "`c` = 'O''Neil'' OR 1=1 --'"),
        ("string", "contains", "50%_\\", "`c` LIKE '%50\\%\\_\\\\%'"),
        ("number", ">=", "1; DROP", None),
        ("number", "<=", "-1.5e3", "`c` <= -1.5e3"),
        ("date", "<", "2024-05-31", "`c` < '2024-05-31'"),
        ("date", "<", "today", None),
        ("boolean", "false", "", "`c` = false"),
        ("string", "empty", "", "`c` IS NULL"),
    ],
)
def test_conditions_are_written_safely(visit: Visit, kind: str, operator: str, value: str, sql: str | None) -> None:
    visit.open()
    made = visit.page.evaluate(
        """async ([type, operator, value]) => {
            const { conditionSql } = await import("/static/filters.js");
            return conditionSql({ name: "c", type }, operator, value);
        }""",
        [kind, operator, value],
    )
    assert made == sql


def test_pointing_lights_what_belongs_together(visit: Visit, collage: bytes) -> None:
    ask(visit, collage)
    page = visit.page
    chosen = page.locator("#train-figure figcaption bdi").text_content()
    upper = chosen == key(0)  # the half of the query that is this image
    cell = 10 if upper else 50
    page.locator(f"#query-figure [data-cell='{cell}']").hover()
    page.locator(LIT).wait_for()
    expect(page.locator("#readout")).to_contain_text("Of what the images shown hold in this region")
    veils = page.locator("#train-figure .region").evaluate_all(
        "(cells) => cells.map((cell) => Number(cell.style.getPropertyValue('--veil')))"
    )
    assert abs(int(np.argmin(veils)) - cell) in (0, 1, 8, 7, 9) and max(veils) > 0.7
    expect(page.locator("#matches .regions.lit")).to_have_count(10)

    page.locator(f"#train-figure [data-cell='{cell}']").hover()
    page.locator("#query-figure .regions.lit").wait_for()
    expect(page.locator(LIT)).to_have_count(0)
    expect(page.locator("#readout")).to_contain_text("is found in")

    page.locator("#verdict").hover()
    expect(page.locator(".regions.lit")).to_have_count(0)


def test_a_click_holds_a_region(visit: Visit, collage: bytes) -> None:
    ask(visit, collage)
    visit.page.locator("#query-figure [data-cell='10']").click()
    visit.page.locator("#verdict").hover()
    visit.page.locator(LIT).wait_for()
    visit.page.locator("#query-figure [data-cell='10']").click()
    visit.page.locator("#verdict").hover()
    expect(visit.page.locator(LIT)).to_have_count(0)


def test_keyboard(visit: Visit, collage: bytes) -> None:
    visit.open()
    page = visit.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    assert page.locator("label.button[for='file']").last.evaluate("(it) => getComputedStyle(it).outlineStyle") == "solid"
    visit.give(collage)
    visit.answered()

    page.locator("#copy-link").focus()
    for _ in range(5):  # past the four files
        page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_attribute("aria-label", "Row 1, column 1")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(focused).to_have_attribute("aria-label", "Row 2, column 2")
    page.locator(LIT).wait_for()
    expect(page.locator("#live")).to_contain_text("Of what the images shown hold in this region")
    page.keyboard.press("Escape")
    expect(page.locator(LIT)).to_have_count(0)
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    expect(focused).to_have_attribute("aria-label", "Row 8, column 8")
    expect(page.locator("#live")).to_contain_text("This region of image")

    page.get_by_role("tab", name="All patches").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", selected=True)).to_have_text("5 px patches")

    page.locator(".pick").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".pick[aria-current]")).to_have_count(1)
    expect(page.locator("#train-figure bdi")).to_have_text(visit.keys()[1])


def test_scales_and_heat_map(visit: Visit, collage: bytes) -> None:
    ask(visit, collage)
    page = visit.page
    page.get_by_role("tab", name="8 px patches, coarse").click()
    expect(page.locator("#query-figure .heat")).to_have_attribute("src", map_path(page, "p8r2"))
    page.locator("#query-figure [data-cell='10']").hover()
    with page.expect_response(lambda response: "/links/" in response.url and "scale=p8r2" in response.url):
        page.locator("#query-figure [data-cell='11']").hover()
    page.mouse.move(1, 1)
    for key, opacity in (("Home", "0"), ("End", "1")):
        page.locator("#opacity").press(key)
        expect(page.locator("#query-figure .heat")).to_have_css("opacity", opacity)


def test_timestep_in_words(visit: Visit, collage: bytes) -> None:
    ask(visit, collage)
    slider = visit.page.get_by_label("Look at")
    assert slider.get_attribute("aria-valuetext") == "parts and shapes (t = 100)"
    expect(visit.page.get_by_role("button", name="Compare again")).to_be_disabled()
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "fine detail (t = 5)"
    expect(visit.page.get_by_role("button", name="Compare again")).to_be_enabled()
    slider.press("End")
    expect(visit.page.locator("#timestep-words")).to_have_text("broad composition (t = 800)")


def test_files(visit: Visit, collage: bytes, tmp_path: Path) -> None:
    ask(visit, collage)
    starts = {"Report": b"<!doctype html>", "Picture": b"\x89PNG", "JSON": b"{", "Parquet": b"PAR1"}
    for name, start in starts.items():
        with visit.page.expect_download() as download:
            visit.page.get_by_role("link", name=name, exact=True).click()
        download.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


def test_a_broken_file(visit: Visit, collage: bytes) -> None:
    visit.expected.add(415)
    visit.open()
    visit.give(collage[:40])
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("This file cannot be read as a picture")
    expect(visit.page.locator("#preview")).to_be_hidden()
    visit.give(collage)  # the next one works
    visit.answered()
    expect(alert).to_have_count(0)


def test_too_large_a_file(visit: Visit) -> None:
    def lower_limit(route: Route) -> None:
        index = route.fetch().json()
        index["limits"]["bytes"] = 5000
        route.fulfill(json=index)

    visit.page.route("**/v1/index", lower_limit)
    visit.open()
    visit.give(bytes(8000), "huge.png")
    expect(visit.page.get_by_role("alert")).to_contain_text("This file is too large")
    expect(visit.page.get_by_role("alert")).to_contain_text("It has 8 kB; the server takes up to 5 kB.")


def test_a_busy_server(visit: Visit, collage: bytes) -> None:
    visit.expected.add(429)
    refused = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route)
        body = {"error": {"code": "busy", "message": "64 questions are waiting already"}}
        route.fulfill(status=429, headers={"Retry-After": "1"}, json=body)

    visit.page.route("**/v1/attribute", refuse_once)
    visit.open()
    visit.give(collage)
    expect(visit.page.locator("#notice")).to_contain_text("The server is busy. Trying again in 1 second.")
    visit.answered()
    assert len(refused) == 1


def test_a_lost_connection(visit: Visit, collage: bytes) -> None:
    visit.page.route("**/v1/attribute", lambda route: route.abort("connectionrefused"))
    visit.open()
    visit.give(collage)
    expect(visit.page.get_by_role("alert")).to_contain_text("The connection to the server was lost")
    visit.page.unroute("**/v1/attribute")
    visit.page.get_by_role("button", name="Try again").click()
    visit.answered()


def test_cancel(visit: Visit, collage: bytes) -> None:
    unanswered: list[Route] = []
    visit.page.route("**/v1/attribute", lambda route: unanswered.append(route))
    visit.open()
    visit.give(collage)
    visit.page.get_by_role("button", name="Cancel").click()
    expect(visit.page.locator("#notice")).to_be_hidden()
    expect(visit.page.locator("#answer")).to_be_hidden()
    unanswered[0].abort()


def test_an_answer_that_is_gone(visit: Visit) -> None:
    visit.expected.add(404)
    visit.open("/#r=" + "0" * 32)
    expect(visit.page.get_by_role("alert")).to_contain_text("This answer is no longer kept")


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
        visit.answered()
        page.locator("#query-figure [data-cell='10']").hover()
        page.locator(LIT).wait_for()
        with page.expect_download() as download:
            page.get_by_role("link", name="JSON").click()
        download.value.save_as(tmp_path / "answer.json")
        assert len(json.loads((tmp_path / "answer.json").read_text())["images"]) == 10
        page.reload()  # the tab remembers the token
        visit.answered()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_accessibility(browser: Browser, service: str, collage: bytes, width: int, dark: bool) -> None:
    with visiting(browser, service, width, dark) as visit:
        visit.open()
        check_accessibility(visit.page)
        ask(visit, collage)
        add_condition(visit.page, 0, "label", "is", "cat")
        visit.page.locator("#answer details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
        check_accessibility(visit.page)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def key(image_id: int) -> str:
    return f"{image_id:08}"


def ask(visit: Visit, picture: bytes) -> None:
    visit.open()
    visit.give(picture)
    visit.answered()


def add_condition(page: Page, number: int, column: str, operator: str, value: str | None) -> None:
    page.locator("#how").evaluate("(it) => { it.open = true; }")
    page.locator("#add-condition").click()
    row = page.locator("#conditions li").nth(number)
    row.get_by_label("Column").select_option(label=column)
    row.get_by_label("Comparison").select_option(label=operator)
    if value is not None:
        row.get_by_label("Value").fill(value)


def map_path(page: Page, scale: str) -> str:
    identity = page.url.rpartition("=")[2]
    rank = page.locator("#train-figure .rank").text_content()
    return f"/v1/results/{identity}/maps/{rank}/query.png?scale={scale}"


def give_token(page: Page, token: str) -> None:
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Continue").click()


def check_accessibility(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious] == []
