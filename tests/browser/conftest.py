"""A small collection, its service on a free port, and Chromium to visit it."""

from __future__ import annotations

import hashlib
import io
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from tests.conftest import photographs

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from playwright.sync_api import Browser, Page, Response, expect, sync_playwright  # noqa: E402

from nda_index.serve.app import create_app  # noqa: E402
from nda_index.serve.settings import ServeSettings  # noqa: E402

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
TOKEN = "a token that the tests know"
COUNT = 120  # images of the collection without copies
COPIES = 2  # of image 0, at its end
STARTUP = 60.0  # seconds


@dataclass
class Visit:
    """A page of the service in a fresh browser, and everything that must not happen there."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)  # statuses of refusals that this visit provokes

    def open(self, place: str = "/") -> None:
        """Go to a place of the service, and wait until the collection is known."""
        self.page.goto(self.address + place)
        self.page.locator("#version:not(:empty)").wait_for(state="attached")

    def answered(self) -> None:
        """Wait until an answer is shown, and the pictures of the pair."""
        expect(self.page.locator("#notice")).to_be_hidden()
        expect(self.page.locator("#answer")).to_be_visible()
        for image in self.page.locator(".pair img").all():
            expect(image).not_to_have_js_property("naturalWidth", 0)

    def give(self, data: bytes, name: str = "picture.png") -> None:
        """Choose a picture's file."""
        self.page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})

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


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def collection() -> NDArray[np.uint8]:
    """uint8 [N, 24, 20, 3]; the last images are near-copies of the first."""
    pictures = photographs(COUNT, seed=5)
    noise = np.random.default_rng(6).integers(-4, 5, (COPIES, *pictures.shape[1:]))
    copies = np.clip(pictures[:1] + noise, 0, 255).astype(np.uint8)
    return np.concatenate([pictures, copies])


@pytest.fixture(scope="session")
def collage(collection: NDArray[np.uint8]) -> bytes:
    """A picture whose upper half is image 0 and whose lower half is image 7."""
    picture = collection[7].copy()
    picture[:12] = collection[0][:12]
    return png(picture)


@pytest.fixture(scope="session")
def collection_index(tmp_path_factory: pytest.TempPathFactory, collection: NDArray[np.uint8]) -> Path:
    """The collection's index, with metadata of several types."""
    folder = tmp_path_factory.mktemp("browser")
    number = np.arange(len(collection))
    labels = np.array(["cat", "dog", "it's 100%"])[number % 3]
    np.savez(folder / "pictures.npz", images=collection, label=labels, year=2000 + number // 20, sold=number % 2 == 0)
    scales = [nda.Scale(5), nda.Scale(8, 2)]
    nda.build_index(folder / "pictures.npz", folder / "pictures.nda", image_size=(24, 20), scales=scales)
    return folder / "pictures.nda"


@pytest.fixture(scope="session")
def service(collection_index: Path) -> Iterator[str]:
    """Address of a service that everyone may ask."""
    with _serving(collection_index, frozenset()) as address:
        yield address


@pytest.fixture(scope="session")
def protected_service(collection_index: Path) -> Iterator[str]:
    """Address of a service that asks for `TOKEN`."""
    with _serving(collection_index, frozenset([hashlib.sha256(TOKEN.encode()).hexdigest()])) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; `apt-get install chromium` installs it on Debian")
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser, service: str) -> Iterator[Visit]:
    """A visit to the service, which must end without problems."""
    with visiting(browser, service) as one:
        yield one


@contextmanager
def visiting(browser: Browser, address: str, width: int = 1440, dark: bool = False) -> Iterator[Visit]:
    """Visit a service with a screen of this width."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    context.set_default_timeout(15_000)
    one = Visit(context.new_page(), address)
    one.watch()
    yield one
    context.close()
    assert one.problems == []


@contextmanager
def _serving(folder: Path, tokens: frozenset[str]) -> Iterator[str]:
    """Serve an index from a thread."""
    settings = ServeSettings(folder.with_name(f"results-{len(tokens)}"), tokens=tokens, threads=1)
    app = create_app(nda.open_index(folder), settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        address = "http://127.0.0.1:{}".format(listening.getsockname()[1])
        try:
            _wait_until_ready(address)
            yield address
        finally:
            server.should_exit = True
            thread.join()


def _wait_until_ready(address: str) -> None:
    end = time.monotonic() + STARTUP
    while True:
        try:
            urllib.request.urlopen(f"{address}/readyz").close()
            return
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
