"""Pixels as floats, and pictures as the bytes of image files."""

from __future__ import annotations

import io
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TINY = 64  # pixels of the longer side up to which a PNG is small enough, and JPEG would blur what there is
Pixels: TypeAlias = "NDArray[np.uint8 | np.float16]"  # what an index compares: bytes of pictures, or latents


@overload
def to_float(pixels: Pixels) -> NDArray[np.float32]: ...


@overload
def to_float(pixels: Pixels, dtype: type[np.float64]) -> NDArray[np.float64]: ...


def to_float(pixels: Pixels, dtype: type[Any] = np.float32) -> NDArray[Any]:
    """Return what an index holds as the floats that are compared: bytes in [-1, 1], latents as they are.

    Args:
        pixels: uint8 or float16, of any shape.
        dtype: np.float32, or np.float64 where the difference of large sums of them counts.

    Example:
        >>> to_float(np.array([0, 51, 255], np.uint8)).tolist()
        [-1.0, -0.6000000238418579, 1.0]
        >>> to_float(np.array([0.5, -3.0], np.float16)).tolist()
        [0.5, -3.0]
    """
    if pixels.dtype != np.uint8:
        return np.asarray(pixels, dtype)
    return np.asarray(pixels / dtype(127.5) - dtype(1.0), dtype)


def encode_png(image: Image.Image) -> bytes:
    """Encode an image as a PNG file.

    Example:
        >>> encode_png(Image.new("L", (2, 2)))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    image.save(buffer, "PNG")  # optimize takes three times as long, for 1 to 3% less
    return buffer.getvalue()


def encode_small(image: Image.Image, longest: int) -> bytes:
    """Encode an image to look at, reduced to a longer side of `longest` pixels: PNG where it is tiny, else JPEG.

    Example:
        >>> encode_small(Image.new("RGB", (8, 8)), 256)[1:4]
        b'PNG'
    """
    return encode_png(image) if max(image.size) <= TINY else encode_jpeg(image, longest)


def encode_jpeg(image: Image.Image, longest: int) -> bytes:
    """Encode an image as a JPEG file, reduced to a longer side of at most `longest` pixels.

    Example:
        >>> encode_jpeg(Image.new("RGB", (2000, 1000)), 500)[:3].hex()
        'ffd8ff'
    """
    reduced = image.convert("RGB")
    reduced.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    reduced.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
