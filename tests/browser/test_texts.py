"""All that the page says comes from its file of texts, and is there when the page is first seen."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect

import nda_index
from tests.browser.test_accessibility import check_accessibility
from tests.browser.visit import Visit, visiting

TEXTS = Path(nda_index.__file__).parent / "serve" / "static" / "texts.js"
MARKING = """
const mark = (it) =>
  typeof it === "string" ? `⟦${it}⟧` : Array.isArray(it) ? it.map(mark)
  : typeof it === "function" ? (...given) => mark(it(...given)) : it;
const marked = (texts) => Object.fromEntries(Object.entries(texts).map(([name, it]) => [name, mark(it)]));
"""
# Words of the page outside ⟦ and ⟧, but for those of the collection, of the service and of settings as they are typed.
BARE = """() => {
  const data = "bdi, code, noscript, .brand, .date, .facts, #recipe option, #recipe-words, select.column option";
  const attributes = ["alt", "aria-label", "aria-valuetext", "placeholder", "title"];
  const texts = [document.title];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) if (!walker.currentNode.parentElement.closest(data)) texts.push(walker.currentNode.data);
  for (const one of attributes)
    for (const it of document.querySelectorAll(`[${one}]`)) texts.push(it.getAttribute(one));
  for (const it of document.querySelectorAll(".facts dt")) texts.push(it.textContent);
  return texts.map((text) => {
    for (let before = ""; before !== text; ) [before, text] = [text, text.replace(/⟦[^⟦⟧]*⟧/g, "")];
    return text.trim();
  }).filter((text) => /[A-Za-z]{2}/.test(text));
}"""
SHIFTS = """window.shifts = [];
new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((it) => it.value)))
  .observe({ type: "layout-shift", buffered: true });"""


def bare(page: Page, known: set[str]) -> set[str]:
    """Texts of the page that do not come from its file of texts, but for what is known."""
    return set(page.evaluate(BARE)) - known


def test_every_text_comes_from_the_file_of_texts(visit: Visit, collage: bytes) -> None:
    source = re.sub(r"^export const (\w+) = \{$", r"export const \1 = marked({", TEXTS.read_text(), flags=re.MULTILINE)
    source = MARKING + re.sub(r"^\};$", "});", source, flags=re.MULTILINE)
    page = visit.page
    page.route("**/static/texts.js", lambda route: route.fulfill(body=source, content_type="text/javascript"))
    visit.open()
    assert bare(page, set()) == set()
    visit.give(collage)
    visit.wait_for_answer()
    page.locator("#query-figure [data-cell='10']").hover()
    expect(page.locator("#readout")).to_contain_text("Of what the images shown")
    page.locator("#how").evaluate("(it) => { it.open = true; }")
    page.locator("#add-condition").click()
    labels = {"nda-index", "cat", "dog", "<b>it's 100%</b>", "label", "year", "sold"}
    settings = {name.replace("_", " ") for name in page.evaluate(
        "fetch(`v1/results/${location.hash.slice(3)}`).then((it) => it.json()).then((it) => Object.keys(it.settings))"
    )}  # fmt: skip
    known = labels | settings
    assert bare(page, known) == set()
    page.get_by_role("button", name="Remove this condition").click()
    expect(page).to_have_title(re.compile("⟦Two strong matches⟧"))
    page.get_by_role("link", name="One picture").click()
    expect(page.locator("#earlier .key")).to_contain_text("⟦")
    assert bare(page, known) == set()
    visit.gesture("paste", collage, collage[:40])
    line = page.locator("#job-list li").first
    expect(line).to_contain_text("1 with a strong match")
    expect(line).to_contain_text("1 without an answer")
    assert bare(page, known) == set()
    line.get_by_role("button").click()
    expect(page.locator("#no-jobs")).to_be_visible()
    visit.expected.add(404)
    page.goto(f"{visit.address}/#r={'0' * 32}")
    alert = page.get_by_role("alert")
    expect(alert.locator("p").first).to_have_text("⟦This answer is no longer kept⟧")
    assert len(bare(page, known)) == 1  # the sentence of the service


def test_a_translation_writes_numbers_its_own_way(browser: Browser, service: str, collage: bytes) -> None:
    german = TEXTS.read_text().replace('language = "en"', 'language = "de"').replace("Made of", "Besteht aus")
    with visiting(browser, service) as visit:
        page = visit.page
        page.route("**/static/texts.js", lambda route: route.fulfill(body=german, content_type="text/javascript"))
        visit.ask(collage)
        expect(page.locator("html")).to_have_attribute("lang", "de")
        expect(page.get_by_role("heading", name="Besteht aus")).to_be_visible()
        expect(page.locator("#matches .share").first).to_have_text(re.compile(r"^\d\d,\d\s%$"))
        check_accessibility(page)


def test_nothing_is_seen_before_its_text_and_nothing_moves(visit: Visit, collage: bytes) -> None:
    page = visit.page
    visit.ask(collage)  # so that there is an earlier question
    held: list[Route] = []
    for path in ("static/texts.js", "v1/index"):
        page.route(f"**/{path}", lambda route: held.append(route))
    page.add_init_script(SHIFTS)
    with page.expect_request("**/static/texts.js"):
        page.goto(visit.address, wait_until="commit")
    page.locator("#token-dialog").wait_for(state="attached")  # the page is read
    for part in (".bar", "#intake", "#how", ".reading", "footer"):
        expect(page.locator(part)).to_be_hidden()
    page.evaluate("document.getElementById('notice').style.display = 'none'")  # it takes its place where it lasts
    with page.expect_request("**/v1/index"):
        held.pop().continue_()
    expect(page.locator("#question")).to_be_visible()
    expect(page.locator("#earlier")).to_be_visible()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("window.shifts") == []
    held.pop().continue_()
    expect(page.locator("#earlier-list img")).not_to_have_js_property("naturalWidth", 0)
