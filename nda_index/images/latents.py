"""Latents: floats [C, H, W] that are compared as they are: nothing is decoded, resized or cropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nda_index.images.forms import as_array
from nda_index.images.values import UnfitValues

LARGEST = float(np.finfo(np.float16).max)
ASPECT = 0.05  # by which the sides of a picture and of its latent may differ in proportion


@dataclass(frozen=True, eq=False)
class Latent:
    """A latent with the picture that it was made of, for people to look at; in a source, or as a question.

    Args:
        values: array or tensor of floats [C, H, W] or [1, C, H, W], or the path of a file of one.
        picture: what holds the picture, as for `Index.attribute`; None where there is none.
    """

    values: Any
    picture: Any = None


def fit_latent(values: Any, shape: tuple[int, ...] | None = None) -> NDArray[np.float16]:
    """Return a latent as an index keeps it.

    Args:
        values: array or tensor of floats [C, H, W], or [1, C, H, W].
        shape: (C, H, W) that it must have; None: any.

    Returns:
        float16 [C, H, W].

    Raises:
        UnfitValues: it is no array of floats, has another shape, or holds what float16 cannot.

    Example:
        >>> fit_latent(np.ones((1, 4, 8, 8), np.float32), (4, 8, 8)).dtype
        dtype('float16')
    """
    array = as_array(values)
    if array.dtype.kind != "f":
        raise UnfitValues(f"has numbers of type {array.dtype}; latents are floats")
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or 0 in array.shape:
        raise UnfitValues(f"has shape {list(array.shape)}; a latent is [C, H, W]")
    if shape is not None and array.shape != tuple(shape):
        raise UnfitValues(f"has shape {list(array.shape)}, and not {list(shape)}")
    if not np.isfinite(array).all():
        raise UnfitValues("holds NaN or infinity; encode its picture again")
    largest = float(np.abs(array).max())
    if largest > LARGEST:
        raise UnfitValues(f"holds numbers up to {largest:.3g}, and float16 ends at {LARGEST:.0f}; scale it down")
    return np.ascontiguousarray(array, np.float16)


def is_latent(pixels: NDArray[Any]) -> bool:
    """Tell whether what an index compares are latents, and not the pixels of pictures.

    Example:
        >>> is_latent(np.zeros((4, 8, 8), np.float16)), is_latent(np.zeros((3, 8, 8), np.uint8))
        (True, False)
    """
    return pixels.dtype != np.uint8


def shows_same(picture: Image.Image, shape: tuple[int, ...]) -> bool:
    """Tell whether a picture has the proportions of a latent [C, H, W], so that its places are those of the latent.

    Example:
        >>> shows_same(Image.new("L", (64, 32)), (4, 4, 8)), shows_same(Image.new("L", (64, 48)), (4, 4, 8))
        (True, False)
    """
    return abs(picture.width * shape[1] / (picture.height * shape[2]) - 1) <= ASPECT
