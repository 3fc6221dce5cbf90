"""Timestep and filters."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, FilePayload, expect

from nda_index.recipe import DEFAULT, RECIPES
from tests.browser.conftest import COPIES, COUNT
from tests.browser.visit import Visit, key, visiting


def test_recipes_in_words(visit: Visit, collage: bytes) -> None:
    visit.ask(collage)
    page = visit.page
    choice = page.get_by_label("Compare", exact=True)
    expect(choice).to_have_value(str(DEFAULT.name))
    expect(choice.locator("option")).to_have_text(
        [*(recipe.title for recipe in RECIPES.values()), "one depth, chosen below"]
    )
    expect(page.locator("#recipe-words")).to_have_text(DEFAULT.summary)
    expect(page.locator("#compared")).to_contain_text(f"recipe {DEFAULT.name}")
    page.get_by_text("Settings and provenance").click()
    expect(page.locator("#provenance")).to_contain_text(str(DEFAULT))
    expect(page.get_by_label("Look at")).to_be_hidden()
    choice.select_option("published")
    expect(page.locator("#recipe-words")).to_have_text(RECIPES["published"].summary)
    visit.compare_again()
    expect(page.locator("#compared")).to_contain_text("recipe published")
    visit.wait_for_answer()
    expect(page.get_by_role("tab")).to_have_count(0)  # of one scale there is nothing to choose


def open_answer(visit: Visit, picture: bytes, **options: str) -> None:
    """Open the answer to a question that was not put on the page."""
    visit.open()
    image: FilePayload = {"name": "picture.png", "mimeType": "image/png", "buffer": picture}
    response = visit.page.request.post(f"{visit.address}/v1/attribute", multipart={"image": image, **options})
    visit.open(f"/#r={response.json()['id']}")
    visit.wait_for_answer()


def test_a_recipe_without_a_name_is_kept(visit: Visit, collage: bytes) -> None:
    open_answer(visit, collage, recipe="5@60(draws=2)", seed="3")
    expect(visit.page.get_by_label("Compare", exact=True)).to_have_value("5@60(draws=2)")
    visit.page.locator("#settings summary").click()
    visit.page.get_by_label("Mirror images count too").check()
    visit.compare_again()
    expect(visit.page.locator("#compared")).to_contain_text("recipe 5@60(draws=2) · mirrored too")
    visit.wait_for_answer()


def test_timestep_in_words(visit: Visit, collage: bytes) -> None:
    visit.ask(collage)
    expect(visit.page.get_by_role("button", name="Compare again")).to_be_disabled()
    visit.page.get_by_label("Compare", exact=True).select_option("one depth, chosen below")
    expect(visit.page.get_by_role("button", name="Compare again")).to_be_enabled()
    slider = visit.page.get_by_label("Look at")
    assert slider.get_attribute("aria-valuetext") == "parts and shapes (t = 100)"
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "fine detail (t = 5)"
    slider.press("End")
    expect(visit.page.locator("#timestep-words")).to_have_text("broad composition (t = 800)")


def test_filters(visit: Visit, browser: Browser, collage: bytes) -> None:
    visit.ask(collage)
    page = visit.page
    visit.add_condition(0, "label", "is", "<b>it's 100%</b>")
    visit.add_condition(1, "year", "is at least", "2002")
    visit.add_condition(2, "sold", "is true", None)
    visit.compare_again()
    expect(page.locator("#compared")).to_contain_text("only where")
    visit.wait_for_answer()
    kept = [number for number in range(COUNT + COPIES) if number % 6 == 2 and 2000 + number // 20 >= 2002]
    assert visit.keys() and set(visit.keys()) <= {key(number) for number in kept}
    expect(page.locator("#compared")).to_contain_text(f"Compared with {len(kept)} images")
    expect(page.locator("#conditions li")).to_have_count(3)
    expect(page.locator("#matches .line").first).to_contain_text("<b>it's 100%</b>")  # as text, never as HTML
    # Whoever opens the link sees the condition, and can take it away.
    with visiting(browser, visit.address) as other:
        other.open(page.url.removeprefix(visit.address))
        other.wait_for_answer()
        expect(other.page.locator("#conditions code")).to_contain_text("<b>it''s 100%</b>")
        other.page.get_by_role("button", name="Remove this condition").click()
        other.compare_again()
        expect(other.page.locator("#compared")).to_contain_text(f"Compared with {COUNT + COPIES} images")
        other.wait_for_answer()


def test_an_opened_answer_keeps_its_settings_when_compared_again(visit: Visit, collage: bytes) -> None:
    """Also with settings that have no control on the page."""
    open_answer(visit, collage, timestep="60,90", temper="2", top="20")
    expect(visit.page.locator("#compared")).to_contain_text("detail and texture (t = 60, 90) · temper 2")
    visit.page.locator("#settings summary").click()
    visit.page.get_by_label("Mirror images count too").check()
    visit.compare_again()
    expect(visit.page.locator("#compared")).to_contain_text("(t = 60, 90) · temper 2 · mirrored too")
    visit.wait_for_answer()
    assert len(visit.keys()) == 20


def test_a_condition_needs_a_value_of_its_kind(visit: Visit, collage: bytes) -> None:
    visit.ask(collage)
    visit.add_condition(0, "year", "is", "soon")
    visit.compare_again()
    assert visit.page.evaluate("document.activeElement.validationMessage").startswith("Give a value")
    expect(visit.page.locator("#compared")).not_to_contain_text("only where")


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
