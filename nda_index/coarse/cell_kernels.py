"""The Numba loops over cells: what mass each can hold for a window, which ones it visits, what the flat ones give.

Logarithms are to base 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.limits import NEGLIGIBLE, NOTHING
from nda_index.coarse.visits import GroupedWindows
from nda_index.exact.compiling import compile_kernel
from nda_index.exact.simd import LANES, fma, load, splat, store

BLOCK = 256  # cells whose sums a thread carries through the windows, row by row
BITS_A_NAT = 1 / math.log(2)
EMPTY = 1e-9  # the count of an empty cell, whose logarithm is then overwritten

Function = TypeVar("Function", bound=Callable[..., Any])
Array = TypeVar("Array", bound=NDArray[Any])


class CellMoments(NamedTuple):
    """What the cells' members are like.

    Attributes:
        counts: int64 [C].
        means: float32 [C, d].
        spreads: float32 [C, d], the variances of the members.
        extra: float32 [C], added to every squared distance.
    """

    counts: NDArray[np.int64]
    means: NDArray[np.float32]
    spreads: NDArray[np.float32]
    extra: NDArray[np.float32]


def read_only(array: Array) -> Array:
    """Return a view of an array that cannot be written to.

    Arrays of files and of Ray are such, computed ones are not, and Numba compiles a kernel again for each kind.

    Example:
        >>> read_only(np.zeros(2)).flags.writeable
        False
    """
    view: Array = array.view()
    view.flags.writeable = False
    return view


def compile_loop(in_order: bool = False, parallel: bool = False) -> Callable[[Function], Function]:
    """Compile a function with Numba: `in_order` where it calls `exp2`, `parallel` where it has a `prange`."""
    # `exp2` rounds by adding and taking away a large number, which sums in any order would undo.
    fastmath = {"nnan", "nsz", "contract", "arcp"} if in_order else True
    options: dict[str, Any] = {"fastmath": fastmath, "nogil": True, "error_model": "numpy"}
    return partial(compile_kernel, parallel=parallel, **options)


@compile_loop(parallel=True)
def weigh_cells(
    windows: GroupedWindows, cells: CellMoments, flat: float, masses: NDArray[np.float32], is_flat: NDArray[np.bool_]
) -> None:
    """Compute the logarithm of the mass that each cell can hold for each window, and whether it is flat there.

    A cell is flat where its members' logits vary by less than `flat` nats. masses and is_flat [W, C] are written.

    A member's logit has mean -(D + spread) / 2s^2 and a standard deviation `deviation`. While the latter is below
    sqrt(2 ln n), n members sum to what a Gaussian integral gives; above it the largest of n terms is all there is (the
    freezing of the random energy model, Derrida 1981).
    """
    vectors, groups, variances = windows
    counts, means, spreads, extra = cells
    size, dimensions = means.shape
    for block in numba.prange((size + LANES - 1) // LANES):
        first, last = block * LANES, min(size, (block + 1) * LANES)
        rows, lanes = np.zeros((3, dimensions * LANES), np.float32), np.zeros((8, LANES), np.float32)
        mean, spread, narrow = rows[0], rows[1], rows[2]
        full, plain, rough, constant, limit, most = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], lanes[5]
        trace, traces = lanes[6], lanes[7]
        for c in range(first, last):
            for i in range(dimensions):
                mean[i * LANES + c - first] = means[c, i]
                spread[i * LANES + c - first] = spreads[c, i]
                trace[c - first] += spreads[c, i]
                traces[c - first] += spreads[c, i] * spreads[c, i]
            most[c - first] = np.log(max(counts[c], 1))
            limit[c - first] = np.sqrt(2 * np.log(max(counts[c], 2)))
        for g in range(len(variances)):
            s2 = variances[g]
            for c in range(first, last):
                determinant = 1.0
                for i in range(dimensions):
                    narrow[i * LANES + c - first] = 1 / (s2 + spreads[c, i])
                    determinant *= 1.0 + np.float64(spreads[c, i]) / s2
                constant[c - first] = np.log(np.float64(max(counts[c], EMPTY))) - 0.5 * np.log(determinant)
            for p in range(groups[g], groups[g + 1]):
                a, b, q = splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0))
                for i in range(dimensions):
                    difference = splat(vectors[p, i]) - load(mean, i * LANES)
                    square = difference * difference
                    a = fma(square, load(narrow, i * LANES), a)
                    b = b + square
                    q = fma(square, load(spread, i * LANES), q)
                store(full, 0, a)
                store(plain, 0, b)
                store(rough, 0, q)
                for lane in range(last - first):
                    c = first + lane
                    distance = plain[lane] + extra[c]
                    smooth = constant[lane] - 0.5 * (full[lane] + extra[c] / s2)
                    deviation = np.sqrt(rough[lane] / (s2 * s2) + traces[lane] / (2 * s2 * s2))
                    frozen = deviation * limit[lane] - (distance + trace[lane]) / (2 * s2)
                    mass = min(smooth, frozen) if deviation > limit[lane] else smooth
                    masses[p, c] = min(mass, most[lane]) * np.float32(BITS_A_NAT) if counts[c] else NOTHING
                    is_flat[p, c] = deviation < flat


@compile_loop(parallel=True)
def choose_cells(
    masses: NDArray[np.float32],
    is_flat: NDArray[np.bool_],
    far: float,
    target: float,
    chosen: NDArray[np.int64],
    flat_total: NDArray[np.float64],
) -> None:
    """Choose each window's cells to visit, best first, until what is left of its mass is below `target`.

    masses and is_flat [W, C], from `weigh_cells`. chosen [W, probes] is written, -1 after the last cell. Flat cells are
    not visited: flat_total [W] becomes the logarithm of their sum. Cells of less than 2^-far of the best one's mass are
    not looked at, flat cells beside the best flat one: what a cell to visit can hold is a bound, and once it proves to
    hold little, the flat ones are all there is.
    """
    for p in numba.prange(masses.shape[0]):
        best, best_flat = NOTHING, NOTHING
        for c in range(masses.shape[1]):
            best = max(best, masses[p, c])
            if is_flat[p, c]:
                best_flat = max(best_flat, masses[p, c])
        flat, sharp, candidates = 0.0, 0.0, 0
        near = np.empty(masses.shape[1], np.int64)
        for c in range(masses.shape[1]):
            if is_flat[p, c]:
                if masses[p, c] > best_flat - far:
                    flat += 2.0 ** (masses[p, c] - best_flat)
            elif masses[p, c] > best - far:
                sharp += 2.0 ** (masses[p, c] - best)
                near[candidates] = c
                candidates += 1
        flat_total[p] = best_flat + np.log2(flat) if best_flat > NOTHING else NOTHING
        even = 2.0 ** (flat_total[p] - best)
        chosen[p] = -1
        left = sharp
        for i in range(min(candidates, chosen.shape[1])):
            if left <= target * (even + sharp):
                break
            top = i
            for j in range(i + 1, candidates):
                if masses[p, near[j]] > masses[p, near[top]]:
                    top = j
            near[i], near[top] = near[top], near[i]
            chosen[p, i] = near[i]
            left -= 2.0 ** (masses[p, near[i]] - best)


@compile_loop(parallel=True)
def sum_flat(
    masses: NDArray[np.float32],
    is_flat: NDArray[np.bool_],
    log_weights: NDArray[np.float64],
    counts: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Sum the weight of one member of each cell over the windows for which the cell is flat, into out [C].

    masses and is_flat [W, C], from `weigh_cells`; counts [C]; log_weights [W], a window's weight over its normaliser.
    """
    windows, cells = masses.shape
    for block in numba.prange((cells + BLOCK - 1) // BLOCK):
        first, last = block * BLOCK, min(cells, (block + 1) * BLOCK)
        out[first:last] = 0.0
        for p in range(windows):
            for c in range(first, last):
                if is_flat[p, c] and masses[p, c] + log_weights[p] > NEGLIGIBLE:
                    out[c] += 2.0 ** (masses[p, c] + log_weights[p])
        for c in range(first, last):
            out[c] /= max(counts[c], 1)
