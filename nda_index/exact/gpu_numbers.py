"""Pixels as numbers of tensor cores: whole block sums in fp16, and queries in two parts of fp16.

Training pixels are bytes. Less their middle, and summed over blocks, they are whole numbers that fp16 holds exactly, up
to `LARGEST_WHOLE`; so products are exact but for the rounding of their sum, which is float32. A query without noise is
whole as well. One with noise is the sum of two parts, of which the second is needed only at little noise.

A query is prepared on the CPU, as planes of block sums: a picture is small, and a device would be asked many times. Its
windows are gathered on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nda_index.diffusion import NoisyImage
from nda_index.exact.gpu_tiles import Tiling
from nda_index.scales import Scale

MIDDLE = 128.0  # of bytes
UNIT = 127.5  # bytes in a distance of 1 between pixels
LARGEST_WHOLE = 2048  # below it fp16 holds every whole number
LARGEST_PART = 2.0**14  # of a query's coordinates: fp16 ends at 2^16
WHOLE = 1e-3  # how far from a whole number a byte may be that was divided and multiplied again
TYPICAL = 60.0  # deviation of pixels from their middle, in bytes
HIGH_ALONE = 1.5e-4  # relative error of a score below which the query's second part is left out
ROUNDING = 2.0**-22  # relative error of a distance that is computed from products


@dataclass(frozen=True)
class QueryNumbers:
    """Noisy queries as planes of block sums, on the CPU. Distances are in squares of block sums.

    Attributes:
        planes: fp16 [2, V, C H' W' + 1]: block sums divided by `divisor`, and what fp16 lacks of them; a 0 at the end.
        squares: float64 [V, slots], |x|^2 of the windows of a tiling.
        units: float32 [V], bits of a distance of 1.
        divisor: power of 2.
        needs_low: bool [V], whether the second part matters.
        errors: float64 [V], largest error of a logit to be expected from rounding.
    """

    planes: NDArray[np.float16]
    squares: NDArray[np.float64]
    units: NDArray[np.float32]
    divisor: float
    needs_low: NDArray[np.bool_]
    errors: NDArray[np.float64]

    def take(self, chosen: NDArray[np.int64]) -> QueryNumbers:
        """Return those of some queries."""
        return QueryNumbers(
            self.planes[:, chosen], self.squares[chosen], self.units[chosen], self.divisor, self.needs_low[chosen],
            self.errors[chosen],
        )  # fmt: skip


def can_be_whole(scale: Scale) -> bool:
    """Return whether fp16 holds all sums of a scale's blocks of bytes."""
    return scale.downscale**2 * MIDDLE <= LARGEST_WHOLE


def whole_images(train: Tensor, scale: Scale) -> Tensor | None:
    """Return padded block sums of training images, fp16 [N, C, H', W'], or None where they are not whole in fp16.

    Args:
        train: uint8 [N, C, H, W], or floats made of bytes, in [-1, 1], on the device.
        scale: its padding and downscale.
    """
    if not can_be_whole(scale):
        return None
    if train.dtype == torch.uint8:
        return _sum_bytes(train.contiguous(), scale)
    pixels = train * UNIT + (UNIT - MIDDLE)  # [N, C, H, W]
    whole = pixels.round()  # [N, C, H, W]
    fits = ((pixels - whole).abs().amax() < WHOLE) & (whole.abs().amax() <= MIDDLE)
    return sum_blocks(whole.float(), scale).half() if bool(fits) else None


def sum_blocks(images: Tensor, scale: Scale) -> Tensor:
    """Pad with the middle and sum blocks: [N, C, H, W] to [N, C, H', W']."""
    padded = F.pad(images, (scale.padding,) * 4)  # [N, C, H + 2 pad, W + 2 pad]
    if scale.downscale == 1:
        return padded
    return F.avg_pool2d(padded, scale.downscale, stride=1, divisor_override=1)  # [N, C, H', W']


def plane_shape(height: int, width: int, scale: Scale) -> tuple[int, int]:
    """Return (H', W'), rows and columns of block sums of a padded image."""
    return height + 2 * scale.padding - scale.downscale + 1, width + 2 * scale.padding - scale.downscale + 1


def window_offsets(channels: int, height: int, width: int, scale: Scale) -> NDArray[np.int64]:
    """Return where a window's coordinates lie in block sums [C, H', W'], from its first one: int64 [K]."""
    r, taps = scale.downscale, scale.taps
    rows, columns = plane_shape(height, width, scale)
    c, i, j = np.meshgrid(np.arange(channels), np.arange(taps) * r, np.arange(taps) * r, indexing="ij")
    return np.asarray((c * rows * columns + i * columns + j).ravel(), np.int64)


def query_numbers(queries: Sequence[NoisyImage], scale: Scale, tiling: Tiling) -> QueryNumbers:
    """Turn noisy queries of one shape into numbers.

    Args:
        queries: the noisy images.
        scale: patch, downscale and strides.
        tiling: the order of the windows.
    """
    clean = np.stack([np.asarray(query.pixels, np.float64) / query.signal for query in queries])
    pixels = clean * UNIT + (UNIT - MIDDLE)  # [V, C, H, W]
    whole = np.rint(pixels)  # [V, C, H, W]
    exact = np.abs(pixels - whole).max(axis=(1, 2, 3)) < WHOLE  # [V]
    sums = sum_blocks(torch.from_numpy(np.where(exact[:, None, None, None], whole, pixels)), scale).numpy()
    divisor = 2.0 ** max(0.0, np.ceil(np.log2(max(np.abs(sums).max(), 1.0) / LARGEST_PART)))
    high = (sums / divisor).astype(np.float16)  # [V, C, H', W']
    low = (sums / divisor - high).astype(np.float16)  # [V, C, H', W']
    planes = np.zeros((2, len(sums), sums[0].size + 1), np.float16)
    planes[0, :, :-1], planes[1, :, :-1] = high.reshape(len(sums), -1), low.reshape(len(sums), -1)
    starts = tiling.query.starts
    squares = _sum_squares(sums, scale, starts)  # [V, slots]
    windows = (starts >= 0).sum()
    lacking = np.sqrt(_sum_squares(low.astype(np.float64), scale, starts).sum(axis=1) / windows) * divisor  # [V]
    variances = np.array([(q.sigma / q.signal * UNIT * scale.downscale) ** 2 for q in queries])
    # Errors of logits, which windows that share no pixel have each its own: a score is a sum over many.
    missing = lacking * TYPICAL * scale.downscale**2 / variances / max(1.0, np.sqrt(windows / 16))
    largest = squares.max(axis=1)  # [V]
    inexact = np.where(exact & (largest * 4 < 2.0**24), 0.0, ROUNDING)
    return QueryNumbers(
        planes, squares, (1 / (2 * variances * np.log(2))).astype(np.float32), divisor, missing > HIGH_ALONE,
        largest * inexact / (2 * variances),
    )  # fmt: skip


def _sum_squares(sums: NDArray[np.float64], scale: Scale, starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum the squares of windows, [V, slots], of block sums [V, C, H', W']; 0 where a slot is empty."""
    total = np.square(sums).sum(axis=1)  # [V, H', W']
    for axis in (1, 2):
        length = total.shape[axis] - (scale.taps - 1) * scale.downscale
        places = np.arange(length)
        total = np.asarray(sum(np.take(total, places + i * scale.downscale, axis=axis) for i in range(scale.taps)))
    y, x = np.divmod(starts.clip(0), sums.shape[3])
    return np.where(starts >= 0, total[:, y, x], 0.0)


def _sum_bytes(train: Tensor, scale: Scale) -> Tensor:
    """Sum blocks of bytes in one pass on the device: uint8 [N, C, H, W] to fp16 [N, C, H', W']."""
    from nda_index.exact import gpu_kernels

    count, channels, height, width = train.shape
    rows, columns = plane_shape(height, width, scale)
    out = torch.empty(count, channels, rows, columns, dtype=torch.float16, device=train.device)
    gpu_kernels.sum_bytes[count * channels,](
        train, out, height, width, rows, columns, scale.padding, MIDDLE, R=scale.downscale,
        BLOCK=min(1024, 1 << (rows * columns - 1).bit_length()), num_warps=4,
    )  # fmt: skip
    return out
