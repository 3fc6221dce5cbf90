"""Counterfactuals: what changes in a picture when its images are taken out of the collection.

The images that a method ranks first are removed, a new model is trained, and it makes its picture from the same noise.
The more the picture changes, beyond what removing as many random images does, the better the method. Needs the extra
`eval`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError, MissingDependencyError

SMALLEST = 7  # pixels: the window of SSIM


@dataclass(frozen=True)
class Change:
    """How pictures differ, pair by pair.

    Attributes:
        distance: float64 [n], Euclidean distance of the pixels in [-1, 1].
        likeness: float64 [n], structural similarity (SSIM, Wang et al. 2004), 1 for equal pictures.
    """

    distance: NDArray[np.float64]
    likeness: NDArray[np.float64]


def change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Change:
    """Measure how much pictures changed.

    Args:
        before, after: uint8 [n, H, W, C], in the same order; H and W at least 7.

    Raises:
        ConfigError: they differ in shape, or are too small.
        MissingDependencyError: scikit-image is not installed.

    Example:
        >>> pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
        >>> change(pictures, pictures).likeness
        array([1., 1.])
    """
    if before.shape != after.shape or before.ndim != 4 or min(before.shape[1:3], default=0) < SMALLEST:
        raise ConfigError(
            f"before is {list(before.shape)} and after {list(after.shape)}; both must be the same [n, H, W, C], with H "
            f"and W at least {SMALLEST}"
        )
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise MissingDependencyError("scikit-image is not installed; run: pip install 'nda-index[eval]'") from error
    difference = (before.astype(np.float64) - after) / 127.5
    likeness = [
        structural_similarity(a, b, channel_axis=2)  # type: ignore[no-untyped-call]
        for a, b in zip(before, after, strict=True)
    ]
    return Change(np.sqrt((difference**2).sum(axis=(1, 2, 3))), np.array(likeness))
