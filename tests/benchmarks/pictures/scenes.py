"""Pictures for tests: colours of chance, smooth enough to be enlarged and shrunk, no two alike."""

from __future__ import annotations

import numpy as np
from PIL import Image


def draw_scene(seed: int, size: tuple[int, int]) -> Image.Image:
    """Draw a picture of width and height in px, with detail from 8 px on."""
    width, height = size
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
