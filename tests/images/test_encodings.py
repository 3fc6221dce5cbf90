from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from nda_index import ImageDecodeError
from nda_index.images import encodings, explain_ending, open_upright
from nda_index.images.encodings import explain_contents
from tests.conftest import RED, encoded

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (".svg", "is SVG, a drawing without pixels; render it to PNG"),
        (".psd", "export it as PNG"),
        (".cr2", "is camera raw; develop it"),
        (".mp4", "is a video"),
        (".txt", "is not a picture by its name (.txt)"),
        ("", "is not a picture by its name (no ending)"),
    ],
)
def test_what_is_not_read_is_explained_by_its_name(ending: str, reason: str) -> None:
    assert reason in explain_ending(ending)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty; copy it again"),
        (HEIC, r"is HEIC, which the extra heif reads: pip install 'nda-index\[heif\]'"),
        (b"\xff\x0a" + bytes(9), "is JPEG XL, which no extra reads; convert it to PNG or WebP"),
        (b"<?xml version='1.0'?>\n<svg xmlns=''/>", "is SVG"),
        (b"%PDF-1.4", "is a page description"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is a page description"),
        (b"\n<!doctype HTML><p>404", "is a web page, perhaps an error in place of the picture"),
        (b"PK\x03\x04", "is an archive"),
    ],
)
def test_what_is_not_read_is_explained_by_its_contents(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for form in (data, path):
        with pytest.raises(ImageDecodeError, match=reason):
            open_upright(form)


def test_a_picture_that_is_damaged_is_not_explained() -> None:
    assert explain_contents(encoded(RED)[:20]) is None


def test_the_reader_of_heic_is_registered_when_the_first_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = ModuleType("pillow_heif")
    registered = []
    plugin.register_heif_opener = lambda: registered.append(True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.setattr(encodings, "find_spec", lambda name: name == "pillow_heif")
    open_upright(encoded(RED))
    assert not registered
    with pytest.raises(ImageDecodeError):
        open_upright(HEIC)
    assert registered == [True]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000", "TGA", "PCX",
                                  "QOI", "SGI", "ICO", "DDS"])  # fmt: skip
def test_every_encoding_is_read(kind: str) -> None:
    data = encoded(Image.new("RGB", (16, 16), (200, 0, 0)), kind)
    red, green, blue = open_upright(data).getpixel((8, 8))  # type: ignore[misc]
    assert abs(red - 200) < 12 and green < 12 and blue < 12
