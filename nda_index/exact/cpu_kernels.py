"""The Numba loops of the CPU backend: distances of one displacement at a time, sixteen training images side by side.

Rows of pixels are flat arrays, column * 16 + lane, so that every inner loop is a plain vector loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

LANES = 16
HEADROOM = 60.0  # bits by which a window may beat `nearest` before it is moved; float32 overflows at 128
BISECTIONS = 26  # leave 2^-26 of the range of 2 * HEADROOM bits in which a window matters

Kernel = TypeVar("Kernel", bound=Callable[..., None])

_OPTIONS: dict[str, Any] = {
    "fastmath": {"nnan", "nsz", "contract", "arcp"},
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
}


@intrinsic
def _times_power_of_two(_typing: Any, _mantissa: Any, _shifted: Any) -> Any:
    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        i32 = ir.IntType(32)
        exponent = builder.shl(builder.bitcast(arguments[1], i32), ir.Constant(i32, 23))
        return builder.bitcast(builder.add(builder.bitcast(arguments[0], i32), exponent), ir.FloatType())

    return types.float32(types.float32, types.float32), code


def _exp2(x: float) -> float:
    raise NotImplementedError


@overload(_exp2)
def _exp2_by_type(x: Any) -> Callable[[Any], Any]:
    if x == types.float64:

        def float64_exp2(x: Any) -> Any:
            return np.exp2(x)

        return float64_exp2
    # Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits. The polynomial is that of 2^f on
    # [-1/2, 1/2], relative error 2.4e-7. Below 2^-126 the result is 2^-126, which no sum notices.
    shift, lowest, one = np.float32(12582912.0), np.float32(-126.0), np.float32(1.0)
    c5, c4, c3 = np.float32(1.3333558e-3), np.float32(9.618129e-3), np.float32(5.5504109e-2)
    c2, c1 = np.float32(2.4022651e-1), np.float32(6.9314718e-1)

    def float32_exp2(x: Any) -> Any:
        x = x if x > lowest else lowest
        shifted = x + shift
        f = x - (shifted - shift)
        return _times_power_of_two(  # type: ignore[call-arg]
            ((((c5 * f + c4) * f + c3) * f + c2) * f + c1) * f + one, shifted
        )

    return float32_exp2


def _kernel(function: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(**_OPTIONS)(function))


def _parallel_kernel(function: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(parallel=True, **_OPTIONS)(function))


@_kernel
def _squared_difference(query: Any, lanes: Any, out: Any, first_row: int, rows: int, x: int, y: int, dy: int) -> None:
    """out[u, :] = sum over channels of (query[c, u] - lanes[c, u + dy]) ** 2, at flat columns x and y."""
    n = out.shape[1]
    for u in range(rows):
        target = out[u]
        for c in range(query.shape[0]):
            a = query[c, first_row + u, x : x + n]
            b = lanes[c, first_row + u + dy, y : y + n]
            if c == 0:
                for j in range(n):
                    target[j] = (a[j] - b[j]) * (a[j] - b[j])
            else:
                for j in range(n):
                    target[j] += (a[j] - b[j]) * (a[j] - b[j])


@_kernel
def _squared_difference_rgb(
    query: Any, lanes: Any, out: Any, first_row: int, rows: int, x: int, y: int, dy: int
) -> None:
    """The same for three channels, in one pass."""
    n = out.shape[1]
    for u in range(rows):
        target = out[u]
        v = first_row + u
        a0, a1, a2 = query[0, v, x : x + n], query[1, v, x : x + n], query[2, v, x : x + n]
        v += dy
        b0, b1, b2 = lanes[0, v, y : y + n], lanes[1, v, y : y + n], lanes[2, v, y : y + n]
        for j in range(n):
            d0, d1, d2 = a0[j] - b0[j], a1[j] - b1[j], a2[j] - b2[j]
            target[j] = d0 * d0 + d1 * d1 + d2 * d2


@_kernel
def _window_sums_along_rows(source: Any, fours: Any, target: Any, rows: int, n: int, taps: int, step: int) -> None:
    """target[u, j] = sum of source[u, j + i * step] over i < taps, four terms at a time.

    From 8 terms on the sums of four are kept in `fours` and added up instead.
    """
    for u in range(rows):
        row, out = source[u], target[u, :n]
        done = 0
        if taps >= 8:
            m = n + (taps - 4) * step
            a, b, c, d = row[:m], row[step:], row[2 * step :], row[3 * step :]
            for j in range(m):
                fours[j] = a[j] + b[j] + c[j] + d[j]
            a = fours[4 * step :]
            for j in range(n):
                out[j] = fours[j] + a[j]
            done = 8
            while done + 4 <= taps:
                a = fours[done * step :]
                for j in range(n):
                    out[j] += a[j]
                done += 4
        elif taps >= 4:
            a, b, c, d = row[:n], row[step:], row[2 * step :], row[3 * step :]
            for j in range(n):
                out[j] = a[j] + b[j] + c[j] + d[j]
            done = 4
        else:
            for j in range(n):
                out[j] = row[j]
            done = 1
        a = row[done * step :]
        if taps - done == 3:
            b, c = a[step:], a[2 * step :]
            for j in range(n):
                out[j] += a[j] + b[j] + c[j]
        elif taps - done == 2:
            b = a[step:]
            for j in range(n):
                out[j] += a[j] + b[j]
        elif taps - done == 1:
            for j in range(n):
                out[j] += a[j]


@_kernel
def _suffix_and_prefix_sums(field: Any, suffix: Any, rows: int, n: int, taps: int, step: int) -> None:
    """Down the rows, in blocks of `taps` rows `step` apart: suffix[u] to a block's end, field[u] from its start."""
    for u in range(rows - 1, -1, -1):
        source, target = field[u, :n], suffix[u, :n]
        if (u // step) % taps == taps - 1 or u + step >= rows:
            for j in range(n):
                target[j] = source[j]
        else:
            below = suffix[u + step, :n]
            for j in range(n):
                target[j] = source[j] + below[j]
    for u in range(step, rows):
        if (u // step) % taps != 0:
            target, above = field[u, :n], field[u - step, :n]
            for j in range(n):
                target[j] += above[j]


@_kernel
def _distance_row(field: Any, suffix: Any, out: Any, p: int, n: int, taps: int, step: int) -> None:
    above = suffix[p, :n]
    if (p // step) % taps == 0:
        for j in range(n):
            out[j] = above[j]
    else:
        below = field[p + (taps - 1) * step, :n]
        for j in range(n):
            out[j] = above[j] + below[j]


@_kernel
def _distances(
    query: Any, lanes: Any, field: Any, suffix: Any, flat: Any, fours: Any,
    first_row: int, rows: int, column: int, columns: int, dy: int, dx: int, taps: int, step: int,
) -> None:  # fmt: skip
    """Fill `field` and `suffix` so that `_distance_row` gives D(p, p + d) for `rows` rows from `first_row`."""
    wide = (columns + (taps - 1) * step) * LANES
    tall = rows + (taps - 1) * step
    n = columns * LANES
    scratch = flat[: tall * wide].reshape(tall, wide)
    x, y = column * LANES, (column + dx) * LANES
    if query.shape[0] == 3:
        _squared_difference_rgb(query, lanes, scratch, first_row, tall, x, y, dy)
    else:
        _squared_difference(query, lanes, scratch, first_row, tall, x, y, dy)
    _window_sums_along_rows(scratch, fours, field, tall, n, taps, step * LANES)
    _suffix_and_prefix_sums(field, suffix, tall, n, taps, step)


@_kernel
def _lower_nearest(sums: Any, nearest: Any, distance: Any, bits: Any) -> None:
    """Move `nearest` down to `distance` where a sum could overflow, and the sums with it."""
    n = distance.shape[0]
    far = 0
    margin = nearest.dtype.type(HEADROOM) / bits
    for j in range(n):
        far += np.int32(distance[j] < nearest[j] - margin)
    if far > 0:
        for j in range(n):
            before = nearest[j]
            after = distance[j] if distance[j] < before else before
            sums[j] = sums[j] * _exp2((after - before) * bits)
            nearest[j] = after


@_kernel
def _add_weights(sums: Any, nearest: Any, distance: Any, bits: Any) -> None:
    for j in range(distance.shape[0]):
        sums[j] += _exp2((nearest[j] - distance[j]) * bits)


@_parallel_kernel
def accumulate(
    query: Any, lanes: Any, row_plan: Any, column_plan: Any, taps: int, step: int, query_stride: int,
    train_stride: int, bits: Any, nearest: Any, sums: Any, onto_train: bool,
) -> None:  # fmt: skip
    """Add up the weights 2 ** ((nearest[p] - D(p, q)) * bits) of all planned pairs of windows.

    Over training windows: sums [G, query rows, query columns * 16], with `nearest` of the same shape, which moves.
    Or `onto_train`, over query windows: sums [G, train rows, train columns * 16], with `nearest` [1, query rows, query
    columns * 16], which stays.
    """
    height, width = query.shape[1], query.shape[2]
    for g in numba.prange(lanes.shape[0]):
        field, suffix = np.empty((height, width), lanes.dtype), np.empty((height, width), lanes.dtype)
        flat, fours = np.empty(height * width, lanes.dtype), np.empty(width, lanes.dtype)
        row = np.empty(width, lanes.dtype)
        for a in range(row_plan.shape[0]):
            dy, r0, r1, row_step = row_plan[a]
            for b in range(column_plan.shape[0]):
                dx, c0, c1, column_step = column_plan[b]
                n = (c1 - c0) * LANES
                _distances(query, lanes[g], field, suffix, flat, fours, r0, r1 - r0, c0, c1 - c0, dy, dx, taps, step)
                # Neighbouring columns in one stretch; columns of a coarser grid one by one.
                stretch = n if column_step == 1 else LANES
                for p in range(r0, r1, row_step):
                    _distance_row(field, suffix, row, p - r0, n, taps, step)
                    for c in range(c0, c1, column_step if column_step > 1 else c1 - c0):
                        i, o = (c - c0) * LANES, (c // query_stride) * LANES
                        distance = row[i : i + stretch]
                        if onto_train:
                            q = ((c + dx) // train_stride) * LANES
                            target = sums[g, (p + dy) // train_stride, q : q + stretch]
                            _add_weights(target, nearest[0, p // query_stride, o : o + stretch], distance, bits)
                        else:
                            target = sums[g, p // query_stride, o : o + stretch]
                            near = nearest[g, p // query_stride, o : o + stretch]
                            _lower_nearest(target, near, distance, bits)
                            _add_weights(target, near, distance, bits)


@_parallel_kernel
def accumulate_best(
    query: Any, lanes: Any, row_plan: Any, column_plan: Any, taps: int, step: int, query_stride: int,
    train_stride: int, bits: Any, nearest: Any, sums: Any, k: int, strip: int, windows: int, train_columns: int,
) -> None:  # fmt: skip
    """The same over the k nearest windows of an image, with all distances of `strip` query rows in memory."""
    height, width = query.shape[1], query.shape[2]
    for g in numba.prange(lanes.shape[0]):
        field, suffix = np.empty((height, width), lanes.dtype), np.empty((height, width), lanes.dtype)
        flat, fours = np.empty(height * width, lanes.dtype), np.empty(width, lanes.dtype)
        row = np.empty(width, lanes.dtype)
        columns = nearest.shape[2] // LANES
        kept = np.empty((strip, columns, windows, LANES), lanes.dtype)
        for start in range(0, nearest.shape[1], strip):
            kept[:] = np.inf
            first, end = start * query_stride, (start + strip) * query_stride
            for a in range(row_plan.shape[0]):
                dy, r0, r1, row_step = row_plan[a]
                r0 += max(0, -((r0 - first) // row_step)) * row_step
                r1 = min(r1, end)
                if r0 >= r1:
                    continue
                for b in range(column_plan.shape[0]):
                    dx, c0, c1, column_step = column_plan[b]
                    n = (c1 - c0) * LANES
                    _distances(
                        query, lanes[g], field, suffix, flat, fours, r0, r1 - r0, c0, c1 - c0, dy, dx, taps, step
                    )
                    for p in range(r0, r1, row_step):
                        _distance_row(field, suffix, row, p - r0, n, taps, step)
                        above = ((p + dy) // train_stride) * train_columns
                        for c in range(c0, c1, column_step):
                            window = above + (c + dx) // train_stride
                            target = kept[p // query_stride - start, c // query_stride, window]
                            source = row[(c - c0) * LANES : (c - c0 + 1) * LANES]
                            for lane in range(LANES):
                                target[lane] = source[lane]
            for p in range(start, min(start + strip, nearest.shape[1])):
                for c in range(columns):
                    o = c * LANES
                    _sum_of_nearest(
                        kept[p - start, c], k, bits, nearest[g, p, o : o + LANES], sums[g, p, o : o + LANES]
                    )


@_kernel
def _sum_of_nearest(distances: Any, k: int, bits: Any, nearest: Any, sums: Any) -> None:
    """Sum over the k smallest distances [windows, 16] of each lane, found by bisection of the k-th smallest.

    Distances over 2 * HEADROOM bits from the smallest do not matter; those within the last interval are taken as equal.
    """
    low = np.full(LANES, np.inf, nearest.dtype)
    high = np.empty(LANES, nearest.dtype)
    count = np.empty(LANES, np.int32)
    for i in range(distances.shape[0]):
        for lane in range(LANES):
            low[lane] = min(low[lane], distances[i, lane])
    for lane in range(LANES):
        nearest[lane] = low[lane]
        high[lane] = low[lane] + nearest.dtype.type(2 * HEADROOM) / bits
    for _ in range(BISECTIONS):
        count[:] = 0
        middle = (low + high) / 2
        for i in range(distances.shape[0]):
            for lane in range(LANES):
                count[lane] += np.int32(distances[i, lane] < middle[lane])
        for lane in range(LANES):
            if count[lane] <= k:
                low[lane] = middle[lane]
            else:
                high[lane] = middle[lane]
    count[:] = 0
    sums[:] = 0
    for i in range(distances.shape[0]):
        for lane in range(LANES):
            if distances[i, lane] < low[lane]:
                count[lane] += 1
                sums[lane] += _exp2((nearest[lane] - distances[i, lane]) * bits)
    for lane in range(LANES):
        sums[lane] += max(0, k - count[lane]) * _exp2((nearest[lane] - low[lane]) * bits)
