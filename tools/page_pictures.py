"""Take the pictures of the page in docs/: an answer of the demo's index, on a wide and on a narrow screen.

Run tools/demo.sh first, which makes the index of scikit-image's photographs; then python -m tools.page_pictures.
"""

from __future__ import annotations

import argparse
import io
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import nda_index as nda
from nda_index.serve.app import create_app
from nda_index.serve.settings import ServeSettings
from tools import demo

SCREENS = {1440: 1180, 390: 844}  # width and height
COLOURS = 256  # of a picture: a third of the bytes
WAIT = 120_000  # milliseconds for an answer


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, default=Path("demo-output/demo.nda"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    with serving(options.index) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        for width in SCREENS:
            picture(browser, address, width, question()).save(options.docs / f"page-{width}.png", optimize=True)
        browser.close()


def question() -> bytes:
    """The demo's first question as a file."""
    buffer = io.BytesIO()
    demo.compose(demo.QUESTIONS["three pieces"]).save(buffer, "PNG")
    return buffer.getvalue()


def picture(browser: Browser, address: str, width: int, query: bytes) -> Image.Image:
    """The page with an answer."""
    page = browser.new_page(viewport={"width": width, "height": SCREENS[width]})
    page.goto(address)
    page.locator("#version:not(:empty)").wait_for(state="attached", timeout=WAIT)
    page.set_input_files("#file", {"name": "picture.png", "mimeType": "image/png", "buffer": query})
    page.locator("#answer").wait_for(timeout=WAIT)
    page.wait_for_load_state("networkidle")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    return shot.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


@contextmanager
def serving(index: Path) -> Iterator[str]:
    """The service of an index on a free port of this machine, until the end."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listening:
        app = create_app(nda.open_index(index), ServeSettings(Path(folder)))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
