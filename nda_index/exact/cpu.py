"""The exact posterior on the CPU: one pass over displacements, sixteen training images side by side.

For a fixed displacement d between query and training window, D(p, p + d) is a box filter over the squared difference of
the query and the shifted training image, so its cost per pair of windows does not depend on the patch (the
integral-image trick of fast non-local means). Down the columns the filter adds suffix and prefix sums of blocks as long
as the window (van Herk 1992, Gil and Werman 1993): three additions whatever its length, and no subtraction, so float32
keeps its relative precision where running sums would lose it.

Sums of exponentials are kept relative to a distance `nearest` that follows the smallest one seen. It is moved only
when an exponent would pass 2^60: one pass gives the normaliser and every image's share of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.exact.cpu_kernels import LANES, accumulate, accumulate_best
from nda_index.scales import Scale, block_means

TOPK_BYTES = 16 << 20  # distances kept at a time for per_image_topk, per thread
SMALL_VARIANCE = 2e-3  # below it, distances are so large in units of sigma^2 that their float32 rounding shows
LARGE_PENALTY = 1000.0  # logit of one pixel outside against one inside, above which float32 drowns the others


@dataclass(frozen=True)
class _Plan:
    """Which pairs of windows are compared. Arrays int64 [displacements, 4]: d, first and last + 1 row of p, step."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    query_shape: tuple[int, int]
    train_shape: tuple[int, int]

    def arguments(self, scale: Scale) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int, int, int]:
        return self.rows, self.columns, scale.taps, scale.downscale, scale.query_stride, scale.train_stride


def log_masses(
    noisy: NoisyImage, train: NDArray[np.floating], scale: Scale, mask_value: float, per_image_topk: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What `nda_index.exact.reference.log_masses` gives, for clean training images [N, C, H, W]."""
    total, best = _log_masses(noisy, train, scale, per_image_topk, outside=None)
    if not np.isinf(mask_value) and not _border_is_negligible(noisy, train, scale, mask_value, total):
        total, best = _log_masses(noisy, train, scale, per_image_topk, outside=mask_value)
    return total, best


def train_maps(
    noisy: NoisyImage, train: NDArray[np.floating], scale: Scale, log_normaliser: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What `nda_index.exact.reference.train_map` gives for several images at `mask_value=inf`: [N, rows, columns]."""
    plan = _plan(noisy.pixels.shape[1], noisy.pixels.shape[2], scale, matching_overhang=True)
    query, lanes = _lanes(noisy, train, scale, outside=0.0)
    rows, columns = plan.query_shape
    weight_one = (-log_normaliser * 2 * noisy.sigma**2).reshape(rows, columns).astype(lanes.dtype)
    nearest = np.repeat(weight_one, LANES, axis=1)[None]  # [1, rows, columns * 16]
    maps = np.zeros((len(lanes), plan.train_shape[0], plan.train_shape[1] * LANES), lanes.dtype)
    accumulate(query, lanes, *plan.arguments(scale), _bits(noisy, lanes), nearest, maps, onto_train=True)
    return _images_first(maps, len(train)).reshape(len(train), *plan.train_shape)


def _log_masses(
    noisy: NoisyImage,
    train: NDArray[np.floating],
    scale: Scale,
    per_image_topk: int | None,
    outside: float | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """With a value `outside` the images every pair of windows is compared, without one those of equal overhang."""
    plan = _plan(noisy.pixels.shape[1], noisy.pixels.shape[2], scale, matching_overhang=outside is None)
    query, lanes = _lanes(noisy, train, scale, outside or 0.0)
    arguments, bits = (query, lanes, *plan.arguments(scale)), _bits(noisy, lanes)
    rows, columns = plan.query_shape
    windows = plan.train_shape[0] * plan.train_shape[1]
    nearest = np.full((len(lanes), rows, columns * LANES), np.finfo(np.float32).max / 4, lanes.dtype)
    sums = np.zeros_like(nearest)
    accumulate(*arguments, bits, nearest, sums, onto_train=False)
    total = _log_sum(nearest, sums, noisy.sigma, len(train))
    if per_image_topk is None or per_image_topk >= windows:
        return total, total
    strip = max(1, TOPK_BYTES // (columns * windows * LANES * lanes.itemsize))
    accumulate_best(*arguments, bits, nearest, sums, per_image_topk, strip, windows, plan.train_shape[1])
    return total, _log_sum(nearest, sums, noisy.sigma, len(train))


def _bits(noisy: NoisyImage, lanes: NDArray[np.floating]) -> Any:
    """Factor from a squared distance to the binary logarithm of its weight, of the lanes' type."""
    return lanes.dtype.type(1 / (2 * noisy.sigma**2 * np.log(2)))


def _log_sum(
    nearest: NDArray[np.floating], sums: NDArray[np.floating], sigma: float, count: int
) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        logs = np.log(sums.astype(np.float64)) - nearest.astype(np.float64) / (2 * sigma**2)
    return _images_first(logs, count)


def _images_first(lanes: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    groups, rows, width = lanes.shape
    split = lanes.reshape(groups, rows * width // LANES, LANES)  # [G, P, 16]
    return np.asarray(split.transpose(0, 2, 1).reshape(groups * LANES, -1)[:count], np.float64)  # [N, P]


def _plan(height: int, width: int, scale: Scale, matching_overhang: bool) -> _Plan:
    return _Plan(
        rows=_axis_plan(height, scale, matching_overhang),
        columns=_axis_plan(width, scale, matching_overhang),
        query_shape=_grid(height, width, scale, scale.query_stride),
        train_shape=_grid(height, width, scale, scale.train_stride),
    )


def _grid(height: int, width: int, scale: Scale, stride: int) -> tuple[int, int]:
    return len(range(0, scale.positions(height), stride)), len(range(0, scale.positions(width), stride))


def _axis_plan(size: int, scale: Scale, matching_overhang: bool) -> NDArray[np.int64]:
    """Displacements along an axis, nearest first, with the query positions p that they apply to: d, first, end, step.

    Both p and p + d must lie on their grids. Windows with the same overhang: any two interior ones, or d = 0.
    """
    positions, interior = range(scale.positions(size)), scale.interior(size)
    step = int(np.lcm(scale.query_stride, scale.train_stride))
    plan = []
    for d in sorted(range(-len(positions) + 1, len(positions)), key=abs):
        allowed = interior if matching_overhang and d else positions
        first, end = max(allowed.start, allowed.start - d), min(allowed.stop, allowed.stop - d)
        on_grid = [p for p in range(first, min(end, first + step)) if p % scale.query_stride == 0]
        on_grid = [p for p in on_grid if (p + d) % scale.train_stride == 0]
        if on_grid:
            plan.append((d, on_grid[0], on_grid[0] + len(range(on_grid[0], end, step)) * step - step + 1, step))
    return np.array(plan, np.int64)


def _lanes(
    noisy: NoisyImage, train: NDArray[np.floating], scale: Scale, outside: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Padded block means: the query [C, H', W' * 16], every value 16 times, and images by 16, [G, C, H', W' * 16]."""
    precise = noisy.sigma**2 < SMALL_VARIANCE or outside**2 > LARGE_PENALTY * 2 * noisy.sigma**2
    dtype = np.float64 if precise else np.float32
    pad = ((0, 0), (scale.padding,) * 2, (scale.padding,) * 2)
    query = block_means(np.pad(noisy.pixels.astype(dtype), pad, constant_values=outside), scale.downscale)
    groups = -(-len(train) // LANES)
    scaled = np.zeros((groups * LANES, *train.shape[1:]), dtype)
    np.multiply(train, dtype(noisy.signal), out=scaled[: len(train)], casting="unsafe")
    scaled[len(train) :] = scaled[len(train) - 1]  # the last group is filled up with copies, dropped at the end
    means = block_means(np.pad(scaled, ((0, 0), *pad), constant_values=outside), scale.downscale)
    split = means.reshape(groups, LANES, *means.shape[1:])  # [G, 16, C, H', W']
    lanes = np.ascontiguousarray(split.transpose(0, 2, 3, 4, 1))  # [G, C, H', W', 16]
    return np.repeat(query, LANES, axis=2), lanes.reshape(*lanes.shape[:3], -1)


def _border_is_negligible(
    noisy: NoisyImage,
    train: NDArray[np.floating],
    scale: Scale,
    mask_value: float,
    total: NDArray[np.float64],
) -> bool:
    """Whether pairs with different overhang hold less than 2^-24 of every position's sum at this mask value.

    Where overhangs differ along an axis, at least one line of blocks along the other axis holds `downscale` pixels more
    of the outside in one window than in the other. At most ceil(padding / downscale) of that line's blocks stick out
    along the other axis in the query's window, and as many in the training window; in the rest the difference is at
    least `gap`, the smallest one between a block with one line outside and a block inside. If nothing is left of the
    line, one block still differs in the corner, and no bound is claimed for it.
    """
    r, taps = scale.downscale, scale.taps
    blocks = taps - 2 * -(-scale.padding // r)
    if blocks < 1:
        return False
    inside = max(float(np.abs(noisy.pixels).max()), float(noisy.signal * np.abs(train).max()))
    # A block with one line of r pixels outside against a block of r * r pixels inside.
    gap = (r * abs(mask_value) - (r * r - r) * inside) / r - r * inside
    if gap <= 0:
        return False
    distance = noisy.pixels.shape[0] * blocks * gap**2
    pairs = len(train) * scale.positions(noisy.pixels.shape[1]) * scale.positions(noisy.pixels.shape[2])
    return bool(
        np.log(pairs) - distance / (2 * noisy.sigma**2) < np.logaddexp.reduce(total, axis=0).min() - 24 * np.log(2)
    )
