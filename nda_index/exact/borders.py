"""Which pairs of windows are compared: all, or those that stick out of the image by the same amount."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.exact.masses import LEFT_OUT_BITS
from nda_index.scales import Scale


@dataclass(frozen=True)
class PairPlan:
    """Pairs of windows by displacement. Arrays int64 [displacements, 4]: d, first and last + 1 query position, step.

    Along each axis query position p is compared with p + d for p in range(first, last + 1, step). Positions count
    pixels; the shapes are those of the query's and the training images' grids of positions.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    query_shape: tuple[int, int]
    train_shape: tuple[int, int]

    def smallest(self, train_stride: int) -> PairPlan:
        """Return the displacements of at most a pixel, or what it takes to reach a training position from any other."""
        reach = max(1, train_stride - 1)
        rows, columns = (axis[np.abs(axis[:, 0]) <= reach] for axis in (self.rows, self.columns))
        return PairPlan(rows, columns, self.query_shape, self.train_shape)


def pair_plan(height: int, width: int, scale: Scale, matching_overhang: bool) -> PairPlan:
    """Plan the pairs of an image size and scale; with `matching_overhang` only those of equal overhang."""
    return PairPlan(
        rows=_plan_axis(height, scale, matching_overhang),
        columns=_plan_axis(width, scale, matching_overhang),
        query_shape=_count_positions(height, width, scale, scale.query_stride),
        train_shape=_count_positions(height, width, scale, scale.train_stride),
    )


def _count_positions(height: int, width: int, scale: Scale, stride: int) -> tuple[int, int]:
    return len(range(0, scale.positions(height), stride)), len(range(0, scale.positions(width), stride))


def _plan_axis(size: int, scale: Scale, matching_overhang: bool) -> NDArray[np.int64]:
    """Plan an axis: p and p + d must lie on their grids. Windows of equal overhang: two interior ones, or d = 0."""
    positions, interior = range(scale.positions(size)), scale.interior(size)
    step = int(np.lcm(scale.query_stride, scale.train_stride))
    plan = []
    for d in range(-len(positions) + 1, len(positions)):
        allowed = interior if matching_overhang and d else positions
        first, end = max(allowed.start, allowed.start - d), min(allowed.stop, allowed.stop - d)
        on_grid = [p for p in range(first, min(end, first + step)) if p % scale.query_stride == 0]
        on_grid = [p for p in on_grid if (p + d) % scale.train_stride == 0]
        if on_grid:
            plan.append((d, on_grid[0], on_grid[0] + len(range(on_grid[0], end, step)) * step - step + 1, step))
    return np.array(plan, np.int64).reshape(-1, 4)


def border_is_negligible(
    noisy: NoisyImage,
    largest: float,
    count: int,
    scale: Scale,
    mask_value: float,
    log_total: NDArray[np.float64],
) -> bool:
    """Return whether pairs of different overhang hold less than 2^-24 of every position's sum at this mask value.

    `largest` is that of the absolute values of `count` training images' pixels.

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
    inside = max(float(np.abs(noisy.pixels).max()), noisy.signal * largest)
    # A block with one line of r pixels outside against a block of r * r pixels inside.
    gap = (r * abs(mask_value) - (r * r - r) * inside) / r - r * inside
    if gap <= 0:
        return False
    distance = noisy.pixels.shape[0] * blocks * gap**2
    pairs = count * scale.positions(noisy.pixels.shape[1]) * scale.positions(noisy.pixels.shape[2])
    return bool(np.log(pairs) - distance / (2 * noisy.sigma**2) < log_total.min() - LEFT_OUT_BITS * np.log(2))
