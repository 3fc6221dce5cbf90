"""Pixels as numbers of tensor cores: whole block sums in fp16, and others in two parts of fp16.

Training pixels are bytes. Less their middle, and summed over blocks, they are whole numbers that fp16 holds exactly, up
to `LARGEST_WHOLE`; so products are exact but for the rounding of their sum, which is float32. A query without noise is
whole as well. One with noise is the sum of two parts, of which the second is needed only at little noise.

Latents are no bytes. They are numbers of fp16 as they come; their block sums, and floats of any kind, are two parts as
well, which lie side by side as twice the coordinates. The kernels sum the squares of coordinates, and (a + b)^2 is
a^2 + b^2 + 2ab: what is missing is one more coordinate of a window, so small that its own square is nothing.

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
from nda_index.exact import gpu_plain
from nda_index.exact.gpu_tiles import Tiling
from nda_index.scales import Scale

MIDDLE = 128.0  # of bytes
UNIT = 127.5  # bytes in a distance of 1 between pixels
LARGEST_WHOLE = 2048  # below it fp16 holds every whole number
LARGEST_PART = 2.0**14  # of a query's coordinates: fp16 ends at 2^16
WHOLE = 1e-3  # how far from a whole number a byte may be that was divided and multiplied again
TYPICAL = 60.0  # deviation of pixels from their middle, in bytes
SHRUNK = 256.0  # what the missing products of two parts are divided by: their square is then below the rounding
HIGH_ALONE = 1.5e-4  # relative error of a score below which the query's second part is left out
ROUNDING = 2.0**-22  # relative error of a distance that is computed from products


@dataclass(frozen=True)
class Coding:
    """How pixels become numbers: pixel * unit + offset.

    Attributes:
        unit, offset: of them.
        whole: whether training images have whole numbers.
        parts: numbers of fp16 that stand for one of a training image, 1 or 2.
        typical: deviation of training pixels from 0, in numbers.
        energy: largest mean square of a training image's numbers.
    """

    unit: float
    offset: float
    whole: bool
    parts: int
    typical: float
    energy: float

    def coordinates(self, channels: int, scale: Scale) -> int:
        """Return the number of a window's coordinates."""
        count = channels * scale.taps**2
        return count if self.parts == 1 else 2 * count + 1


BYTES = Coding(UNIT, UNIT - MIDDLE, True, 1, TYPICAL, 0.0)


@dataclass(frozen=True)
class QueryNumbers:
    """Noisy queries as planes of block sums, on the CPU. Distances are in squares of block sums.

    Attributes:
        planes: fp16 [2, V, planes H' W' + 1]: block sums divided by `divisor`, and what fp16 lacks of them; a 0 at the
            end. The planes are the channels, or with two parts what `_pair_parts` says.
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


def code_images(train: Tensor, scale: Scale) -> tuple[Tensor, Coding] | None:
    """Return training images as numbers, fp16 [N, planes, H', W'], and how they were made; None where fp16 ends.

    Args:
        train: uint8 or floats [N, C, H, W] on the device.
        scale: its padding and downscale.
    """
    whole = whole_images(train, scale)
    return (whole, BYTES) if whole is not None else _float_images(gpu_plain.as_floats(train), scale)


def _float_images(train: Tensor, scale: Scale) -> tuple[Tensor, Coding] | None:
    """Return floats [N, C, H, W] that are no bytes as numbers: in one part where fp16 has them, else in two."""
    halves = train.half()
    mean = train.square().mean(dim=(1, 2, 3)).amax() if len(train) else train.new_zeros(())
    exact, largest, energy = torch.stack([(halves == train).all().float(), train.abs().amax(), mean]).tolist()
    if not largest * scale.downscale**2 <= LARGEST_PART:
        return None
    single = exact == 1.0 and scale.downscale == 1
    coding = Coding(1.0, 0.0, False, 1 if single else 2, max(energy, 1e-12) ** 0.5, energy)
    sums = sum_blocks(train, scale)  # [N, C, H', W']
    return (sums.half() if single else _pair_parts(sums, scale)), coding


def _pair_parts(sums: Tensor, scale: Scale) -> Tensor:
    """Return block sums [N, C, H', W'] in two parts, fp16 [N, 2 C + 1, H', W'].

    The last plane has at a window's first place twice the products of its parts, divided by `SHRUNK`.
    """
    high = sums.half()  # [N, C, H', W']
    low = (sums - high.float()).half()  # [N, C, H', W']
    products = (high.double() * low.double()).sum(dim=1, keepdim=True)  # [N, 1, H', W']
    size, reach = products.shape[2:], (scale.taps - 1) * scale.downscale
    for axis, length in enumerate(size, start=2):
        parts = [products.narrow(axis, i, length - reach) for i in range(0, reach + 1, scale.downscale)]
        products = torch.stack(parts).sum(dim=0)  # summed along the axis
    missing = F.pad(products * (2.0 / SHRUNK), (0, reach, 0, reach))  # [N, 1, H', W']
    return torch.cat([high, low, missing.half()], dim=1)  # [N, 2 C + 1, H', W']


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


def coordinate_offsets(channels: int, height: int, width: int, scale: Scale, parts: int) -> NDArray[np.int64]:
    """Return where a window's coordinates lie in planes of `parts`, from its first one: int64 [K]."""
    if parts == 1:
        return window_offsets(channels, height, width, scale)
    missing = 2 * channels * np.prod(plane_shape(height, width, scale))
    return np.append(window_offsets(2 * channels, height, width, scale), missing)


def window_offsets(channels: int, height: int, width: int, scale: Scale) -> NDArray[np.int64]:
    """Return where a window's coordinates lie in block sums [C, H', W'], from its first one: int64 [K]."""
    r, taps = scale.downscale, scale.taps
    rows, columns = plane_shape(height, width, scale)
    c, i, j = np.meshgrid(np.arange(channels), np.arange(taps) * r, np.arange(taps) * r, indexing="ij")
    return np.asarray((c * rows * columns + i * columns + j).ravel(), np.int64)


def query_numbers(queries: Sequence[NoisyImage], scale: Scale, tiling: Tiling, coding: Coding = BYTES) -> QueryNumbers:
    """Turn noisy queries of one shape into numbers.

    Args:
        queries: the noisy images.
        scale: patch, downscale and strides.
        tiling: the order of the windows.
        coding: of the training images.
    """
    clean = np.stack([np.asarray(query.pixels, np.float64) / query.signal for query in queries])
    pixels = clean * coding.unit + coding.offset  # [V, C, H, W]
    whole = np.rint(pixels)  # [V, C, H, W]
    exact = (np.abs(pixels - whole).max(axis=(1, 2, 3)) < WHOLE) & coding.whole  # [V]
    sums = sum_blocks(torch.from_numpy(np.where(exact[:, None, None, None], whole, pixels)), scale).numpy()
    divisor = 2.0 ** max(0.0, np.ceil(np.log2(max(np.abs(sums).max(), 1.0) / LARGEST_PART)))
    high = (sums / divisor).astype(np.float16)  # [V, C, H', W']
    low = (sums / divisor - high).astype(np.float16)  # [V, C, H', W']
    both = [high, low]
    if coding.parts == 2:  # each part of a training number meets the query's; the last plane adds what squares lack
        missing = np.full_like(high[:, :1], -SHRUNK / (2 * divisor))  # [V, 1, H', W']
        both = [np.concatenate([high, high, missing], axis=1), np.concatenate([low, low, 0 * missing], axis=1)]
    planes = np.zeros((2, len(sums), both[0][0].size + 1), np.float16)
    planes[:, :, :-1] = np.reshape(both, (2, len(sums), -1))
    starts = tiling.query.starts
    squares, lost_squares = _sum_squares(np.stack([sums, low]), scale, starts)  # [V, slots] each
    windows = (starts >= 0).sum()
    lacking = np.sqrt(lost_squares.sum(axis=1) / windows) * divisor  # [V]
    variances = np.array([(q.sigma / q.signal * coding.unit * scale.downscale) ** 2 for q in queries])
    # Errors of logits, which windows that share no pixel have each its own: a score is a sum over many.
    lost = lacking * coding.typical * scale.downscale**2 / variances / max(1.0, np.sqrt(windows / 16))
    train = 2 * coding.energy * scale.downscale**4 * sums.shape[1] * scale.taps**2  # of a window, hardly more
    largest = np.maximum(squares.max(axis=1), train)  # [V]
    inexact = np.where(exact & (largest * 4 < 2.0**24), 0.0, ROUNDING)
    return QueryNumbers(
        planes, squares, (1 / (2 * variances * np.log(2))).astype(np.float32), divisor, lost > HIGH_ALONE,
        largest * inexact / (2 * variances),
    )  # fmt: skip


def _sum_squares(sums: NDArray[np.float64], scale: Scale, starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum the squares of windows, [..., slots], of block sums [..., C, H', W']; 0 where a slot is empty."""
    total = np.square(sums).sum(axis=-3)  # [..., H', W']
    for _ in range(2):  # along the rows of pixels, and then along the columns
        last = total.shape[-1] - (scale.taps - 1) * scale.downscale
        steps = range(0, scale.taps * scale.downscale, scale.downscale)
        total = np.swapaxes(sum(total[..., i : i + last] for i in steps), -1, -2)
    y, x = np.divmod(starts.clip(0), sums.shape[-1])
    return np.asarray(np.where(starts >= 0, total[..., y, x], 0.0))


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
