"""Pixels as numbers of tensor cores: whole block sums in fp16, and queries in two parts of fp16.

Training pixels are bytes. Less their middle, and summed over blocks, they are whole numbers that fp16 holds exactly, up
to `LARGEST_WHOLE`; so products are exact but for the rounding of their sum, which is float32. A query without noise is
whole as well. One with noise is the sum of two parts, of which the second is needed only at little noise.
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
    """Windows of noisy queries in the order of a tiling's slots, on a device. Distances are in squares of block sums.

    Attributes:
        high: fp16 [V, slots, K'], coordinates divided by `divisor`, padded with 0.
        low: fp16 [V, slots, K'], what `high` lacks.
        squares: float64 [V, slots], |x|^2.
        units: float32 [V], bits of a distance of 1.
        divisor: power of 2.
        needs_low: bool [V], whether `low` matters.
        errors: float64 [V], largest error of a logit to be expected from rounding.
    """

    high: Tensor
    low: Tensor
    squares: Tensor
    units: Tensor
    divisor: float
    needs_low: NDArray[np.bool_]
    errors: NDArray[np.float64]

    def take(self, chosen: NDArray[np.int64]) -> QueryNumbers:
        """Return those of some queries."""
        at = torch.from_numpy(chosen).to(self.high.device)
        return QueryNumbers(
            self.high[at], self.low[at], self.squares[at], self.units[at], self.divisor,
            self.needs_low[chosen], self.errors[chosen],
        )  # fmt: skip


def whole_images(train: Tensor, scale: Scale) -> Tensor | None:
    """Return padded block sums of training images, fp16 [N, C, H', W'], or None where they are not whole in fp16.

    Args:
        train: uint8 [N, C, H, W], or floats made of bytes, in [-1, 1].
        scale: its padding and downscale.
    """
    if scale.downscale**2 * MIDDLE > LARGEST_WHOLE:
        return None
    if train.dtype == torch.uint8:
        # Where nothing is summed fp16 holds all there is, in half the memory.
        return sum_blocks((train.half() if scale.downscale == 1 else train.float()) - MIDDLE, scale).half()
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


def window_offsets(channels: int, height: int, width: int, scale: Scale) -> NDArray[np.int64]:
    """Return where a window's coordinates lie in block sums [C, H', W'], from its first one: int64 [K]."""
    r, taps = scale.downscale, scale.taps
    rows, columns = (size + 2 * scale.padding - r + 1 for size in (height, width))
    c, i, j = np.meshgrid(np.arange(channels), np.arange(taps) * r, np.arange(taps) * r, indexing="ij")
    return np.asarray((c * rows * columns + i * columns + j).ravel(), np.int64)


def query_numbers(
    queries: Sequence[NoisyImage], scale: Scale, tiling: Tiling, coordinates: int, device: torch.device
) -> QueryNumbers:
    """Take the windows of noisy queries.

    Args:
        queries: of one shape.
        scale: patch, downscale and strides.
        tiling: the order of the windows.
        coordinates: K', to which windows are padded.
        device: where they are wanted.
    """
    height, width = queries[0].pixels.shape[1:]
    offsets = torch.from_numpy(window_offsets(len(queries[0].pixels), height, width, scale)).to(device)  # [K]
    starts = torch.from_numpy(tiling.query.starts).to(device)  # [slots]
    clean = np.stack([np.asarray(query.pixels, np.float64) / query.signal for query in queries])
    pixels = torch.from_numpy(clean * UNIT + (UNIT - MIDDLE)).to(device)  # [V, C, H, W]
    whole = pixels.round()  # [V, C, H, W]
    exact = (pixels - whole).abs().amax(dim=(1, 2, 3), keepdim=True) < WHOLE  # [V, 1, 1, 1]
    sums = sum_blocks(torch.where(exact, whole, pixels), scale).flatten(1)  # [V, C H' W']
    windows = sums[:, starts.clamp(min=0)[:, None] + offsets]  # [V, slots, K]
    windows = windows * (starts >= 0)[:, None]  # [V, slots, K]
    largest = float(windows.abs().max())
    divisor = 2.0 ** max(0.0, np.ceil(np.log2(max(largest, 1.0) / LARGEST_PART)))
    padded = F.pad(windows / divisor, (0, coordinates - windows.shape[2]))  # [V, slots, K']
    high = padded.half()  # [V, slots, K']
    low = (padded - high.double()).half()  # [V, slots, K']
    variances = np.array([(q.sigma / q.signal * UNIT * scale.downscale) ** 2 for q in queries])
    squares = windows.square().sum(dim=2)  # [V, slots]
    parts = low.double().square().sum(dim=2).mean(dim=1).sqrt() * divisor  # [V]
    # Errors of logits, which windows that share no pixel have each its own: a score is a sum over many.
    missing = parts.cpu().numpy() * TYPICAL * scale.downscale**2 / variances
    missing /= max(1.0, np.sqrt((tiling.query.starts >= 0).sum() / 16))
    largest_square = squares.amax(dim=1).cpu().numpy()
    inexact = np.where(exact.flatten().cpu().numpy() & (largest_square * 4 < 2.0**24), 0.0, ROUNDING)
    return QueryNumbers(
        high.contiguous(), low.contiguous(), squares,
        torch.from_numpy(1 / (2 * variances * np.log(2))).float().to(device), divisor,
        missing > HIGH_ALONE, largest_square * inexact / (2 * variances),
    )  # fmt: skip
