from __future__ import annotations

import io

import numpy as np
from PIL import Image

from nda_index.images import encode_png, to_float
from tests.conftest import photographs


def test_bytes_become_floats_between_minus_one_and_one() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(2, 128)
    floats = to_float(values)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, values.astype(np.float64) / 127.5 - 1, atol=2**-23)
    assert (floats.min(), floats.max()) == (-1, 1)


def test_a_png_holds_the_pixels() -> None:
    data = encode_png(Image.fromarray(photographs(1)[0]))
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), photographs(1)[0])
