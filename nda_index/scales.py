"""A scale: the size of the patches that are compared, and the grid of positions at which they are taken.

A patch is a `patch` x `patch` window of pixels. Every window is averaged in `downscale` x `downscale` blocks first, so
that a large window costs as much as a small one. Windows stick out of the image at its border by up to
`(patch - 1) // 2` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError

LARGEST = 65_535  # patch, block or stride in pixels: more than any image has


@dataclass(frozen=True)
class Scale:
    """One patch size at which query and training images are compared (paper, section 3; design of the two-scale score).

    Args:
        patch: side of the window in pixels, odd or even.
        downscale: side of the blocks of pixels that are averaged; it must divide `patch`.
        weight: factor of this scale's scores in the sum over scales (alpha in the paper).
        query_stride: distance in pixels between patches of the query. 1 is as published; more costs less
            time, least where both strides are equal, and sees less of the query.
        train_stride: the same for training images; more loses alignments, which matter at small timesteps.

    Raises:
        ConfigError: a value breaks a rule above.

    Example:
        >>> Scale(patch=14, downscale=2).name
        'p14r2'
    """

    patch: int
    downscale: int = 1
    weight: float = 1.0
    query_stride: int = 1
    train_stride: int = 1

    def __post_init__(self) -> None:
        for field in ("patch", "downscale", "query_stride", "train_stride"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= LARGEST:
                raise ConfigError(f"the scale's {field} is {value!r}; it must be an integer from 1 to {LARGEST}")
        if self.patch % self.downscale:
            raise ConfigError(
                f"a patch of {self.patch} pixels cannot be cut into blocks of {self.downscale}; "
                f"take a patch that is a multiple of the downscale, such as {self.downscale * self.taps}"
            )
        if not 0.0 < self.weight < np.inf:
            raise ConfigError(f"the scale's weight is {self.weight!r}; it must be a number above 0")

    @property
    def name(self) -> str:
        """Short name, also the name of the scale's folder in an index: patch and downscale."""
        return f"p{self.patch}r{self.downscale}"

    @property
    def taps(self) -> int:
        """Side of the window in blocks."""
        return max(1, self.patch // self.downscale)

    @property
    def padding(self) -> int:
        """By how many pixels the first window sticks out of the image, on each side."""
        return (self.patch - 1) // 2

    def positions(self, size: int) -> int:
        """Return the number of window positions along an axis of `size` pixels, before any stride.

        Example:
            >>> Scale(7).positions(32), Scale(14, 2).positions(32)
            (32, 31)
        """
        return size + 2 * self.padding - self.patch + 1

    def interior(self, size: int) -> range:
        """Return the positions along an axis whose window does not stick out.

        Example:
            >>> Scale(7).interior(32)
            range(3, 29)
        """
        return range(self.padding, max(self.padding, size - self.patch + self.padding + 1))

    def query_positions(self, height: int, width: int) -> int:
        """Return the number of patches of a query: its scores over all training images sum to `weight` times this.

        Example:
            >>> Scale(7).query_positions(32, 32)
            1024
        """
        stride = self.query_stride
        return len(range(0, self.positions(height), stride)) * len(range(0, self.positions(width), stride))

    def check_fits(self, height: int, width: int) -> None:
        """Raise `ConfigError` where the patch is larger than the image."""
        if self.patch > min(height, width):
            raise ConfigError(
                f"a patch of {self.patch} pixels does not fit an image of {height} x {width}; "
                f"take an image_size of {self.patch} or more, or a patch of at most {min(height, width)}"
            )


def parse_scale(text: str) -> Scale:
    """Read a scale in short form: "7" is `Scale(7)`, "14/2" is `Scale(14, downscale=2)`, "14/2*0.5" adds a weight.

    Raises:
        ConfigError: the text has another form.

    Example:
        >>> parse_scale("14/2")
        Scale(patch=14, downscale=2, weight=1.0, query_stride=1, train_stride=1)
    """
    window, _, weight = text.partition("*")
    patch, _, downscale = window.partition("/")
    try:
        return Scale(int(patch), int(downscale or 1), float(weight or 1.0))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"scale is {text!r}; write PATCH, PATCH/DOWNSCALE or PATCH/DOWNSCALE*WEIGHT") from error


def block_means(images: NDArray[np.floating], downscale: int) -> NDArray[np.floating]:
    """Average every r x r block and multiply by r (orthonormal rows): [..., H, W] -> [..., H-r+1, W-r+1].

    Example:
        >>> block_means(np.ones((4, 4)), 2).tolist()[0]
        [2.0, 2.0, 2.0]
    """
    if downscale == 1:
        return images
    r = downscale
    height, width = images.shape[-2] - r + 1, images.shape[-1] - r + 1
    rows = sum((images[..., i : i + height, :] for i in range(1, r)), images[..., :height, :])
    return np.asarray(sum((rows[..., j : j + width] for j in range(1, r)), rows[..., :width]) / r, images.dtype)
