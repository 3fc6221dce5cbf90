from __future__ import annotations

import numpy as np
import pytest

from nda_index import ImageDecodeError
from nda_index.images import open_upright
from nda_index.images.truncation import is_truncated
from tests.conftest import encoded

KINDS = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000", "TGA", "QOI", "SGI"]
NOISE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_short_is_refused_and_called_truncated(kind: str) -> None:
    data = encoded(NOISE, kind)
    open_upright(data)
    assert not is_truncated(data)
    for share in (0.5, 0.9):
        with pytest.raises(ImageDecodeError, match="is truncated"):
            open_upright(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"])
def test_a_file_that_is_damaged_but_whole_is_not_called_truncated(kind: str) -> None:
    data = bytearray(encoded(NOISE, kind))
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(8)
    assert not is_truncated(bytes(data))
