"""A small collection, its service on a free port, and Chromium to visit it."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from playwright.sync_api import Browser, sync_playwright

import nda_index as nda
from nda_index.serve.app import create_app
from nda_index.serve.server import make_config
from nda_index.serve.settings import ServeSettings
from nda_index.serve.tokens import Quota
from tests.browser.visit import Visit, key, png, visiting
from tests.conftest import photographs

TOKEN = "a token that the tests know"
COUNT = 120  # images of the collection without copies
COPIES = 2  # of image 0, at its end
STARTUP = 60.0  # seconds
GRACE = 5.0  # seconds that requests in flight have at the end


@pytest.fixture(scope="package")
def collection() -> NDArray[np.uint8]:
    """uint8 [N, 24, 20, 3]; the last images are near-copies of the first."""
    pictures = photographs(COUNT, seed=5)
    noise = np.random.default_rng(6).integers(-4, 5, (COPIES, *pictures.shape[1:]))
    copies = np.clip(pictures[:1] + noise, 0, 255).astype(np.uint8)
    return np.concatenate([pictures, copies])


@pytest.fixture(scope="package")
def collage(collection: NDArray[np.uint8]) -> bytes:
    """A picture whose upper half is image 0 and whose lower half is image 7."""
    picture = collection[7].copy()
    picture[:12] = collection[0][:12]
    return png(picture)


@pytest.fixture(scope="package")
def collection_index(tmp_path_factory: pytest.TempPathFactory, collection: NDArray[np.uint8]) -> Path:
    """The collection's index, with metadata of several types."""
    folder = tmp_path_factory.mktemp("browser")
    number = np.arange(len(collection))
    labels = np.array(["cat", "dog", "<b>it's 100%</b>"])[number % 3]
    keys = np.array([key(image_id) for image_id in range(len(collection))])
    columns = {"keys": keys, "label": labels, "year": 2000 + number // 20, "sold": number % 2 == 0}
    np.savez(folder / "pictures.npz", images=collection, **columns)
    scales = [nda.Scale(5), nda.Scale(8, 2)]
    # 100 unrelated pictures are the fewest of which a match can be stronger than 99%.
    nda.build_index(folder / "pictures.npz", folder / "pictures.nda", image_size=(24, 20), scales=scales, null=100)
    return folder / "pictures.nda"


@pytest.fixture(scope="package")
def service(collection_index: Path) -> Iterator[str]:
    """Address of a service without tokens."""
    with serving(collection_index, {}) as address:
        yield address


@pytest.fixture(scope="package")
def protected_service(collection_index: Path) -> Iterator[str]:
    """Address of a service that needs `TOKEN`."""
    with serving(collection_index, {hashlib.sha256(TOKEN.encode()).hexdigest(): Quota()}) as address:
        yield address


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium."""
    program = _chromium()
    if program is None:
        pytest.skip("Chromium is not installed; `apt-get install chromium` installs it on Debian")
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser, service: str) -> Iterator[Visit]:
    """A visit to the service, which must end without problems."""
    with visiting(browser, service) as one:
        yield one


def _chromium() -> str | None:
    """Path of a Chromium that starts; distributions have packages of the name that only point elsewhere."""
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    return next(
        (path for path in found if subprocess.run([path, "--version"], capture_output=True).returncode == 0), None
    )


@contextmanager
def serving(folder: Path, tokens: Mapping[str, Quota]) -> Iterator[str]:
    """Serve an index from a thread."""
    settings = ServeSettings(folder.with_name(f"results-{len(tokens)}"), tokens=tokens, threads=1)
    app = create_app(nda.open_index(folder), settings)
    server = uvicorn.Server(make_config(app, GRACE))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
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
