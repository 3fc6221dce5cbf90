"""How the colours of a region differ from those that it has in the indexed picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from nda_index.answer.region import Colours

_SIDE = 64  # pixels that both are reduced to: means and deviations need no more
_LUMA = np.array([0.299, 0.587, 0.114])


def compare_colours(asked: Image.Image, indexed: Image.Image) -> Colours:
    """Compare the colours of two pictures of the same thing; they need not lie pixel on pixel.

    Args:
        asked: the region of the question, RGB of any size.
        indexed: the region of the indexed picture.

    Example:
        >>> grey, warm = Image.new("RGB", (9, 9), (100, 100, 100)), Image.new("RGB", (9, 9), (140, 100, 60))
        >>> compare_colours(warm, grey).warmth
        80.0
    """
    one, other = (_reduce(picture) for picture in (asked, indexed))
    luma, luma_other = one @ _LUMA, other @ _LUMA
    return Colours(
        brightness=float(luma.mean() - luma_other.mean()),
        contrast=float((luma.std() + 1) / (luma_other.std() + 1)),  # a level more: flat regions have none to compare
        warmth=float(np.mean(one[..., 0] - one[..., 2]) - np.mean(other[..., 0] - other[..., 2])),
        saturation=(_saturation(one), _saturation(other)),
    )


def _reduce(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    reduced = picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(reduced, np.float64)


def _saturation(pixels: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    return float(np.mean(pixels.max(axis=-1) - pixels.min(axis=-1)))
