"""Errors in plain words."""

from __future__ import annotations

from playwright.sync_api import Route, expect

from tests.browser.visit import Visit


def test_a_broken_file(visit: Visit, collage: bytes) -> None:
    visit.expected.add(415)
    visit.open()
    visit.give(collage[:40])
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("This file cannot be read as a picture")
    expect(visit.page.locator("#preview")).to_be_hidden()
    visit.give(collage)  # the next one works
    visit.wait_for_answer()
    expect(alert).to_have_count(0)


def test_too_large_a_file(visit: Visit) -> None:
    def lower_limit(route: Route) -> None:
        index = route.fetch().json()
        index["limits"]["bytes"] = 5000
        route.fulfill(json=index)

    visit.page.route("**/v1/index", lower_limit)
    visit.open()
    visit.give(bytes(8000))
    expect(visit.page.get_by_role("alert")).to_contain_text("This file is too large")
    expect(visit.page.get_by_role("alert")).to_contain_text("It has 8 kB; the server takes up to 5 kB.")


def test_a_busy_server(visit: Visit, collage: bytes) -> None:
    visit.expected.add(429)
    refused: list[Route] = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route)
        body = {"error": {"code": "busy", "message": "64 questions are in flight already"}}
        route.fulfill(status=429, headers={"Retry-After": "1"}, json=body)

    visit.page.route("**/v1/attribute", refuse_once)
    visit.open()
    visit.give(collage)
    expect(visit.page.locator("#notice")).to_contain_text("The server is busy. Trying again in 1 second.")
    visit.wait_for_answer()
    assert len(refused) == 1


def test_a_lost_connection(visit: Visit, collage: bytes) -> None:
    visit.page.route("**/v1/attribute", lambda route: route.abort("connectionrefused"))
    visit.open()
    visit.give(collage)
    expect(visit.page.get_by_role("alert")).to_contain_text("The connection to the server was lost")
    visit.page.unroute("**/v1/attribute")
    visit.page.get_by_role("button", name="Try again").click()
    visit.wait_for_answer()


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
