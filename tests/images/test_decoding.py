from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nda_index import ImageDecodeError
from nda_index.images import decode_image, describe_input, open_upright
from tests.conftest import GREEN, RED, encoded, photographs


def test_exif_orientation_is_honoured() -> None:
    picture = Image.fromarray(np.concatenate([RED, GREEN]))  # 24 high, 10 wide, red above green
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    decoded = decode_image(encoded(picture, "PNG", exif=exif), (10, 24), 3)
    np.testing.assert_array_equal(decoded[:, 5, 2], GREEN[0, 0])
    np.testing.assert_array_equal(decoded[:, 5, 20], RED[0, 0])


def test_transparency_is_put_on_white_and_deep_grey_is_scaled() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    assert (decode_image(encoded(clear), (4, 4), 3) == 255).all()
    deep = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert (decode_image(encoded(deep), (4, 4), 1) == 128).all()


def test_a_picture_is_cropped_at_its_centre_and_antialiased() -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    assert (decode_image(wide, (8, 8), 3) == 255).all()
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 254
    assert abs(decode_image(stripes, (8, 8), 1).astype(int) - 127).max() <= 8


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(RED)
    for limit in (100, 10):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageDecodeError, match="too many pixels"):
            decode_image(data, (4, 4), 3)


def test_every_form_of_an_image_is_decoded_alike(tmp_path: Path) -> None:
    (photograph,) = photographs(1)
    data = encoded(photograph)
    (tmp_path / "a.png").write_bytes(data)
    forms: list[Any] = [photograph, Image.fromarray(photograph), data, bytearray(data), memoryview(data)]
    for form in [*forms, tmp_path / "a.png", str(tmp_path / "a.png")]:
        decoded = decode_image(form, (24, 20), 3)
        np.testing.assert_array_equal(decoded, photograph.transpose(2, 0, 1))
        assert decoded.flags.c_contiguous
    grey = photograph[..., :1]
    for form in (grey, grey[..., 0], encoded(grey[..., 0])):
        np.testing.assert_array_equal(decode_image(form, (24, 20), 1)[0], grey[..., 0])
        np.testing.assert_array_equal(decode_image(form, (24, 20), 3), np.repeat(grey, 3, axis=2).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "the 0 bytes is empty; copy it again"),
        (b"GIF89a", "the 6 bytes is truncated"),
        (b"GIF89a;", "the 7 bytes cannot be read as an image: .*; give a PNG, JPEG or WebP"),
        (b"broken", "the 6 bytes cannot be read as an image: it is of no known encoding; give"),
        (
            encoded(photographs(1)[0], "JPEG")[:-100],
            "is truncated: the file ends before its picture does; copy it again",
        ),
        ("nowhere.png", "there is no image at 'nowhere.png'; check the path"),
        (17, "the int is no picture; give a path, bytes"),
        (None, "the NoneType is no picture; give a path, bytes"),
        (np.zeros((5, 5, 2), np.uint8), r"has shape \[5, 5, 2\]; it must be \[H, W, C\], \[C, H, W\] or \[H, W\]"),
        (np.zeros((4, 4, 3, 1), np.uint8), r"has shape \[4, 4, 3, 1\]"),
        (np.zeros((0, 4), np.uint8), r"has shape \[0, 4\]"),
        (np.zeros((4, 4)), "numbers of type float64, whose range is not known; say it with value_range"),
        (np.zeros((4, 4), np.int64), "numbers of type int64, whose range is not known; make them uint8"),
        (np.full((4, 4), None), "numbers of type object"),
        ({"caption": "x"}, 'is a dictionary without "bytes" or "path"; it has caption'),
    ],
)
def test_what_is_not_an_image_is_refused(image: Any, message: str) -> None:
    with pytest.raises(ImageDecodeError, match=message):
        decode_image(image, (4, 4), 3)


def test_an_upright_image_keeps_its_size_and_is_turned_and_put_on_white() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(np.concatenate([RED, GREEN]))
    turned = open_upright(encoded(picture, "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(np.asarray(picture), -1))
    clear = open_upright(encoded(np.zeros((3, 5, 4), np.uint8)))
    assert (clear.mode, clear.size) == ("RGB", (5, 3))
    assert (np.asarray(clear) == 255).all()
    with pytest.raises(ImageDecodeError, match="is no picture"):
        open_upright(None)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ("a.png", "'a.png'"),
        (Path("b") / "a.png", "'b/a.png'"),
        (np.zeros((2, 3)), "the array [2, 3]"),
        (b"abc", "the 3 bytes"),
        (memoryview(b"ab"), "the 2 bytes"),
        (Image.new("L", (1, 1)), "the picture"),
        (["a.png"], "the list"),
    ],
)
def test_messages_describe_an_input_without_its_contents(thing: Any, words: str) -> None:
    assert describe_input(thing) == words


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(
        ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "LAB", "HSV", "PA", "La", "RGBa"]
    ),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.sampled_from([1, 3]),
)
def test_every_mode_and_size_gives_the_shape(
    mode: str, width: int, height: int, size: tuple[int, int], channels: int
) -> None:
    decoded = decode_image(Image.new(mode, (width, height)), size, channels, "0..1")
    assert decoded.shape == (channels, *size)
    assert decoded.dtype == np.uint8
