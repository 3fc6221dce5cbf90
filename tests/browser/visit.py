"""A visit to the service's page, which notes everything that must not happen there."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Response, expect

WAIT = 15_000  # milliseconds for anything that is expected
LIT = ".regions.lit"  # regions of a picture of which some are lit
# Drops or pastes files as a person does: Playwright has no such gesture.
GIVE = """([kind, files]) => {
    const transfer = new DataTransfer();
    files.forEach((data, number) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], `picture-${number}.png`, {type: "image/png"}));
    });
    const event = kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true})
        : new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
    document.body.dispatchEvent(event);
}"""


expect.set_options(timeout=WAIT)


@dataclass
class Visit:
    """A page in a fresh browser."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)  # statuses of refusals that this visit provokes

    def open(self, place: str = "/") -> None:
        """Go to a place of the service, and wait until the collection is known."""
        self.page.goto(self.address + place)
        self.page.locator("#version:not(:empty)").wait_for(state="attached")

    def ask(self, picture: bytes) -> None:
        """Open the page, choose a picture and wait for the answer."""
        self.open()
        self.give(picture)
        self.wait_for_answer()

    def give(self, data: bytes) -> None:
        """Choose a picture's file."""
        self.page.set_input_files("#file", {"name": "picture.png", "mimeType": "image/png", "buffer": data})

    def gesture(self, kind: Literal["drop", "paste"], *pictures: bytes) -> None:
        """Drop or paste pictures."""
        self.page.evaluate(GIVE, [kind, [base64.b64encode(picture).decode() for picture in pictures]])

    def wait_for_answer(self) -> None:
        """Wait until an answer is shown, and the pictures of the pair."""
        expect(self.page.locator("#notice")).to_be_hidden()
        expect(self.page.locator("#answer")).to_be_visible()
        for image in self.page.locator(".pair img").all():
            expect(image).not_to_have_js_property("naturalWidth", 0)

    def compare_again(self) -> None:
        """Ask about the same picture with other settings."""
        self.page.get_by_role("button", name="Compare again").click()

    def add_condition(self, number: int, column: str, operator: str, value: str | None) -> None:
        """Add the condition of this number, from 0, to the filters."""
        self.page.locator("#how").evaluate("(it) => { it.open = true; }")
        self.page.locator("#add-condition").click()
        row = self.page.locator("#conditions li").nth(number)
        row.get_by_label("Column").select_option(label=column)
        row.get_by_label("Comparison").select_option(label=operator)
        if value is not None:
            row.get_by_label("Value").fill(value)

    def keys(self) -> list[str]:
        """Names of the images that the answer shows, best first."""
        return self.page.locator("#matches .key").all_text_contents()

    def watch(self) -> None:
        """Note errors in the console, broken rules of content, failed requests and requests to elsewhere."""
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("response", self._look_at)
        self.page.on("request", lambda request: self._check_address(request.url))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):  # noted by its status
            self.problems.append(text)

    def _look_at(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.problems.append(f"{response.status} {response.url}")

    def _check_address(self, url: str) -> None:
        if urlsplit(url).scheme not in ("blob", "data") and not url.startswith(self.address + "/"):
            self.problems.append(f"request to {url}")


@contextmanager
def visiting(browser: Browser, address: str, width: int = 1440, dark: bool = False) -> Iterator[Visit]:
    """Visit a service with a screen of this width; the visit must end without problems."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    context.set_default_timeout(WAIT)
    one = Visit(context.new_page(), address)
    one.watch()
    yield one
    context.close()
    assert one.problems == []


def key(image_id: int) -> str:
    """The name of an image of the collection; some are hard to fit on a narrow screen."""
    return f"{image_id:03}/{'long-name' if image_id % 2 else 'o' * 60}.png"


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
