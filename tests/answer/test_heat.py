from __future__ import annotations

import numpy as np

from nda_index.answer.heat import SIDE, heat_layer, lay_heat


def test_heat_shows_where_the_map_is_high() -> None:
    heat = np.zeros((8, 16), np.float32)
    assert np.asarray(heat_layer(heat, (160, 80)))[..., 3].max() == 0
    heat[1, 14] = 5.0
    layer = np.asarray(heat_layer(heat, (160, 80)))[..., 3]
    row, column = np.unravel_index(layer.argmax(), layer.shape)
    assert (row // 10, column // 10) == (1, 14)
    faint = np.asarray(heat_layer(heat, (160, 80), highest=50.0))[..., 3]
    assert 0 < faint.max() < layer.max()
    image = np.full((8, 16, 1), 128, np.uint8)
    assert lay_heat(image, heat).size == (2 * SIDE, SIDE)
