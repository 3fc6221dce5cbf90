from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nda_index.serve.refusal import Refusal
from nda_index.serve.uploads import open_picture
from tests.conftest import encoded
from tests.serve.conftest import Served, serving


def png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file with a header and image data of one's choice."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def gif_of(frames: int) -> bytes:
    buffer = io.BytesIO()
    pictures = [Image.new("P", (50, 50), i % 255) for i in range(frames)]
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


ZEROS = zlib.compress(bytes(50_000_000), 9)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n%%EOF\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
HOSTILE: dict[str, tuple[Callable[[], bytes], set[int]]] = {
    "nothing": (lambda: b"", {415}),
    "one byte": (lambda: b"\x89", {415}),
    "text": (lambda: b"hello " * 1000, {415}),
    "zeros": (lambda: bytes(100_000), {415}),
    "a program": (lambda: b"\x7fELF" + bytes(5000), {415}),
    "an archive": (lambda: b"PK\x03\x04" + bytes(5000), {415}),
    "a page": (lambda: b"<html><script>alert(1)</script></html>", {415}),
    "SVG": (lambda: SVG, {415}),
    "PostScript": (lambda: EPS, {415}),
    "TIFF": (lambda: encoded(noise(20, 20), "TIFF"), {415}),
    "PNG cut off": (lambda: encoded(noise(90, 90))[:9000], {415}),
    "JPEG cut off": (lambda: encoded(noise(90, 90), "JPEG")[:900], {415}),
    "WebP cut off": (lambda: encoded(noise(90, 90), "WEBP")[:900], {415}),
    "GIF cut off": (lambda: encoded(noise(90, 90), "GIF")[:900], {415}),
    "BMP cut off": (lambda: encoded(noise(90, 90), "BMP")[:900], {415}),
    "PNG with a changed byte": (lambda: encoded(noise(90, 90)).replace(b"IDAT", b"IDAU", 1), {415}),
    "a header alone": (lambda: png(100, 100, b""), {415}),
    "no pixels": (lambda: png(0, 0, zlib.compress(b"")), {415}),
    "a bomb of 10^10 pixels": (lambda: png(100_000, 100_000, ZEROS), {413}),
    "a bomb of 2^62 pixels": (lambda: png(2**31 - 1, 2**31 - 1, ZEROS), {413, 415}),
    "a bomb just above the bound": (lambda: png(5793, 5793, ZEROS), {413}),
    "a grey bomb": (lambda: png(60_000, 60_000, ZEROS, depth=1, colour=0), {413}),
    "more data than pixels": (lambda: png(4, 4, ZEROS), {200, 415}),
    "1 x 60,000": (lambda: encoded(noise(60_000, 1)), {200}),
    "60,000 x 1": (lambda: encoded(noise(1, 60_000)), {200}),
    "1 x 1": (lambda: encoded(noise(1, 1)), {200}),
    "16 bits": (lambda: encoded(Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30))), {200}),
    "transparent": (lambda: encoded(Image.new("RGBA", (30, 30), (0, 0, 0, 0))), {200}),
    "CMYK": (lambda: encoded(Image.new("CMYK", (30, 30)), "JPEG"), {200}),
    "1,000 frames": (lambda: gif_of(1000), {200}),
    "JPEG that is a page too": (lambda: encoded(noise(30, 30), "JPEG") + b"<script>alert(1)</script>", {200}),
    "PNG that is an archive too": (lambda: encoded(noise(30, 30)) + b"PK\x05\x06" + bytes(18), {200}),
    "GIF that is a script too": (lambda: b"GIF89a=1;alert(1)//" + bytes(100), {415}),
    "two pictures in one": (lambda: encoded(noise(30, 30)) + encoded(noise(30, 30), "JPEG"), {200}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_uploads_are_answered_or_refused(served: Served, name: str) -> None:
    make, statuses = HOSTILE[name]
    response = served.ask(make(), top=1)
    assert response.status_code in statuses
    if response.status_code != 200:
        assert response.json()["error"]["code"] in ("image", "pixels")
    assert served.http.get("/readyz").status_code == 200


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    data = png(60_000, 60_000, ZEROS, depth=1, colour=0)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="too many pixels; send at most 1,000 in all"):
            open_picture(data, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_picture_is_refused_by_its_pixels_not_by_its_bytes(served: Served) -> None:
    white = encoded(Image.new("1", (8000, 5000)))
    assert len(white) < 10_000
    with pytest.raises(Refusal, match="8,000 x 5,000 pixels; send at most 39,999,999 in all"):
        open_picture(white, 8000 * 5000 - 1)
    assert open_picture(white, 8000 * 5000).size == (8000, 5000)
    assert served.ask(white).status_code == 413


def test_a_file_of_100_mb_is_refused_unread(served: Served) -> None:
    response = served.ask(bytes(100 << 20))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "bytes"


def test_a_body_without_a_length_is_counted(served: Served) -> None:
    sent = 0

    def endless() -> object:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while sent < 1 << 30:
            sent += 1 << 20
            yield bytes(1 << 20)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        response = served.http.post("/v1/attribute", content=endless(), headers=headers)  # type: ignore[arg-type]
        assert response.status_code == 413
    except httpx.TransportError:  # the service has hung up on what is still being sent
        pass
    assert sent < 100 << 20
    assert served.http.get("/readyz").status_code == 200


def test_a_file_above_the_bound_is_refused_within_a_body_below_it(index_folder: Path, tmp_path: Path) -> None:
    small, large = encoded(noise(40, 40)), encoded(noise(60, 60))
    with serving(index_folder, tmp_path / "results", upload_bytes=len(large) - 1) as served:
        assert served.ask(small, top=1).status_code == 200
        response = served.ask(large, top=1)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "bytes")
