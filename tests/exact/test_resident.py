from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index.exact.resident import ResidentPixels

COLLECTION = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 5), np.uint8)


@pytest.mark.parametrize(
    ("room", "beside", "reads"),
    [
        (10, 0, [[2, 7], [9]]),
        (5, 0, [[2], [7, 7], [7, 9, 7]]),
        (0, 0, [[7, 2, 7], [2, 7, 9, 7]]),
        (5, 9, [[2], [7], [9]]),
        (5, 4, [[2], [7], [9]]),
        (0, 8, [[2, 7], [9]]),
    ],
)
def test_what_fits_is_read_once_and_the_rest_each_time(room: int, beside: int, reads: list[list[int]]) -> None:
    calls: list[list[int]] = []

    def read(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        calls.append(ids.tolist())
        pixels = COLLECTION[ids]
        pixels.flags.writeable = False  # as those of a file
        return pixels

    pixels = ResidentPixels(read, 10, (3, 4, 5), "cpu", room * 60 + 59, beside * 60)
    for ids in ([7, 2, 7], [2, 7, 9, 7]):
        np.testing.assert_array_equal(pixels.take(np.array(ids)).numpy(), COLLECTION[ids])
    assert calls == reads
