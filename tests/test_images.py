from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nda_index import ImageDecodeError
from nda_index.images import decode_image
from tests.conftest import GREEN, RED, encoded


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


@pytest.mark.parametrize(
    "image", [b"", b"GIF89a", "nowhere.png", 17, None, np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4))]
)
def test_what_is_no_image_is_refused(image: Any) -> None:
    with pytest.raises(ImageDecodeError):
        decode_image(image, (4, 4), 3)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.sampled_from([1, 3]),
)
def test_every_mode_and_size_gives_the_shape(
    mode: str, width: int, height: int, size: tuple[int, int], channels: int
) -> None:
    decoded = decode_image(Image.new(mode, (width, height)), size, channels)
    assert decoded.shape == (channels, *size)
    assert decoded.dtype == np.uint8
