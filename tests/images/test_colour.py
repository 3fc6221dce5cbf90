from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from nda_index import ImageDecodeError
from nda_index.images import decode_image, open_upright
from tests.conftest import encoded


def png(depth: int, colour: int, row: bytes, width: int, transparent: bytes) -> bytes:
    """A PNG file of one row, with a transparent value."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)), (b"tRNS", transparent),
        (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""),
    ]  # fmt: skip
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def grey_of(image: Any, **options: Any) -> list[int]:
    """The first row of an image, as it is compared in grey."""
    size = open_upright(image).size if not options else Image.open(io.BytesIO(image)).size
    first: list[int] = decode_image(image, (size[1], size[0]), 1, **options)[0, 0].tolist()
    return first


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        (1, bytes([0b10100000]), 0, [255, 255, 255, 255]),
        (1, bytes([0b10100000]), 1, [255, 0, 255, 0]),
        (2, bytes([0b00011011]), 1, [0, 255, 170, 255]),
        (4, bytes([0x12, 0x3F]), 2, [17, 255, 51, 255]),
        (8, bytes([7, 8, 9, 10]), 9, [7, 8, 255, 10]),
        (16, struct.pack(">4H", 7000, 7001, 65535, 0), 7000, [255, 27, 255, 0]),
    ],
)
def test_a_transparent_grey_is_white_at_every_depth(
    depth: int, row: bytes, transparent: int, expected: list[int]
) -> None:
    assert grey_of(png(depth, 0, row, 4, struct.pack(">H", transparent))) == expected


@pytest.mark.parametrize(("depth", "form"), [(8, ">6B"), (16, ">6H")])
def test_a_transparent_colour_is_white_at_every_depth(depth: int, form: str) -> None:
    step = 1 if depth == 8 else 256
    row = struct.pack(form, *(value * step for value in (10, 20, 30, 40, 20, 30)))
    data = png(depth, 2, row, 2, struct.pack(">3H", 40 * step, 20 * step, 30 * step))
    assert decode_image(data, (1, 2), 3)[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La", "PA", "P"])
def test_every_mode_with_alpha_is_put_on_white(mode: str) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0, 3], pixels[0, 1, 3] = 255, 128
    picture = Image.fromarray(pixels)
    if mode in ("RGBa", "LA"):
        picture = picture.convert(mode)
    elif mode == "La":
        picture = picture.convert("LA").convert("La")
    elif mode in ("P", "PA"):
        picture = Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8))
        picture.putpalette(bytes([0, 0, 0] * 3))
        picture.info["transparency"] = bytes([255, 128, 0])
        picture = picture if mode == "P" else picture.convert("RGBA").convert("PA")
    seen = decode_image(picture, (2, 2), 1)[0]
    assert (seen[0, 0], seen[1, 0], seen[1, 1]) == (0, 255, 255)
    assert seen[0, 1] in (127, 128) or mode == "PA"


def test_sixteen_bits_with_alpha_are_put_on_white() -> None:
    row = struct.pack(">4H", 0x8000, 0xFFFF, 0x8000, 0)
    parts = png(16, 4, row, 2, b"").replace(b"\0\0\0\0tRNS" + struct.pack(">I", zlib.crc32(b"tRNS")), b"")
    assert grey_of(parts) == [128, 255]


@pytest.mark.parametrize(
    ("dtype", "kind", "top"),
    [(np.uint16, "PNG", 65535), (np.uint16, "TIFF", 65535), (np.uint16, "PPM", 65535), (np.int32, "TIFF", 2**31 - 1)],
)
def test_integers_keep_their_upper_eight_bits_however_bright_the_picture_is(dtype: Any, kind: str, top: int) -> None:
    for bright in (1, 8, 256):
        levels = np.array([[0, top // bright // 2, top // bright]], dtype)
        expected = (levels.astype(np.float64) * 256 // (top + 1)).astype(int).tolist()
        assert [grey_of(encoded(Image.fromarray(levels), kind))] == expected


def test_integers_of_files_that_say_less_or_unsigned() -> None:
    levels = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
    data = encoded(Image.fromarray(levels.view(np.int32)), "TIFF")
    unsigned = data.replace(struct.pack("<HHII", 339, 3, 1, 2), struct.pack("<HHII", 339, 3, 1, 1))
    assert unsigned != data
    assert grey_of(unsigned) == [0, 128, 255]
    with pytest.raises(ImageDecodeError, match="has negative numbers of type int32"):
        open_upright(data)


def test_floats_need_a_range() -> None:
    data = encoded(Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), "TIFF")
    with pytest.raises(ImageDecodeError, match=r"float32, whose range is not known; say it with value_range"):
        open_upright(data)
    assert grey_of(data, value_range="0..1") == [0, 128, 255]
    assert grey_of(data, value_range=(-1, 1)) == [128, 191, 255]
    with pytest.raises(ImageDecodeError, match=r"floats from 0 to 1, and value_range says 200..255"):
        grey_of(data, value_range=(200, 255))


def wide_gamut() -> bytes:
    """A profile whose red is wider than that of sRGB: that of sRGB with red and green exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.find(b"rXYZ"), profile.find(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


def test_an_embedded_profile_is_applied_and_a_broken_one_ignored() -> None:
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    data = encoded(red, "PNG", icc_profile=wide_gamut())
    assert np.abs(np.asarray(open_upright(data))[0, 0].astype(int) - (0, 255, 0)).max() <= 2
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert open_upright(encoded(clear, "PNG", icc_profile=wide_gamut())).getpixel((0, 0)) == (255, 255, 255)
    for ignored in (b"broken", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        assert open_upright(encoded(red, "PNG", icc_profile=ignored)).getpixel((0, 0)) == (255, 0, 0)
    grey = encoded(Image.new("L", (2, 2), 77), "PNG", icc_profile=wide_gamut())  # of another kind of colours
    assert open_upright(grey).getpixel((0, 0)) == (77, 77, 77)


def test_lab_and_cmyk_become_rgb() -> None:
    colours = np.array([[[200, 30, 40], [20, 120, 220], [128, 128, 128]]], np.uint8)
    standard, lab_profile = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(colours), standard, lab_profile, outputMode="LAB")
    assert lab is not None
    seen = np.asarray(open_upright(encoded(lab, "TIFF"))).astype(int)
    assert np.abs(seen - colours).max() <= 6
    cmyk = Image.fromarray(colours).convert("CMYK")
    assert np.asarray(open_upright(encoded(cmyk, "TIFF"))).tolist() == np.asarray(cmyk.convert("RGB")).tolist()


def test_the_first_frame_is_read_and_turned() -> None:
    frames = [Image.new("RGB", (4, 2), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert open_upright(data).getpixel((0, 0)) == (255, 0, 0)


def test_bytes_are_kept() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(open_upright(pixels)), pixels)
