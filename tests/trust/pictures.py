"""Pictures, and edits of them, that the tests of evidence and of duplicates share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda

SCALES = (nda.Scale(7), nda.Scale(14, 2))


def photographs(count: int, seed: int = 0, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """Pictures of many rectangles before one another, with a little noise: uint8 [N, 3, height, width]."""
    rng = np.random.default_rng(seed)
    pictures = np.tile(rng.uniform(30, 225, (count, 3, 1, 1)), (1, 1, height, width))
    for picture in pictures:
        for size in np.sort(rng.uniform(0.1, 1.0, 40))[::-1]:
            h, w = max(2, int(size * height)), max(2, int(size * width * rng.uniform(0.5, 1.0)))
            top, left = rng.integers(-h // 2, height), rng.integers(-w // 2, width)
            colour = rng.uniform(30, 225) + rng.uniform(-30, 30, 3)
            picture[:, max(0, top) : top + h, max(0, left) : left + w] = colour[:, None, None]
    return np.asarray(np.clip(pictures + rng.normal(0, 2, pictures.shape), 0, 255), np.uint8)


def code_again(image: NDArray[np.uint8], quality: int = 30) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=quality)
    decoded: NDArray[np.uint8] = np.array(Image.open(buffer), np.uint8)  # [H, W, C]
    return np.ascontiguousarray(decoded.transpose(2, 0, 1), np.uint8)


def crop(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(image[:, 1:30, 1:30].transpose(1, 2, 0))
    resized: NDArray[np.uint8] = np.array(picture.resize((32, 32), Image.Resampling.BICUBIC), np.uint8)  # [H, W, C]
    return np.ascontiguousarray(resized.transpose(2, 0, 1), np.uint8)


EDITS: dict[str, Any] = {
    "identical": lambda image: image,
    "coded again": code_again,
    "cropped": crop,
    "shifted": lambda image: np.pad(image, ((0, 0), (2, 0), (3, 0)), mode="edge")[:, :32, :32],
    "mirrored": lambda image: np.ascontiguousarray(image[..., ::-1]),
    "darker": lambda image: np.asarray(image * 0.7, np.uint8),
    "less contrast": lambda image: np.asarray(128 + (image - 128.0) * 0.5, np.uint8),
    "recoloured": lambda image: np.asarray(image * np.array([1.0, 0.8, 0.9])[:, None, None], np.uint8),
}
