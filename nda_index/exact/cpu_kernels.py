"""The Numba loops of the CPU backend: a sweep over displacements, sixteen training images in the lanes of a vector.

Buffers are flat; an index counts vectors and `* LANES` makes it one of floats. Neighbouring displacements along a row
are worked on side by side (`ABREAST`): each value of the query is spread over the lanes once for all of them, and the
loops are long enough that leaving them costs little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from nda_index.exact.simd import LANES, any_below, exp2, fma, larger, load, smaller, splat, store

ABREAST = 6  # displacements side by side: measured best of 1, 2, 4, 6, 8

# What becomes of a pair's distance.
SUM, BEST, NEAREST, ONTO_TRAIN, ONTO_PIXELS = 0, 1, 2, 3, 4

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {
    "fastmath": {"nnan", "nsz", "contract", "arcp"},
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
}


def _kernel(function: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(**_OPTIONS)(function))


def _parallel_kernel(function: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(parallel=True, **_OPTIONS)(function))


@_kernel
def _vectors(count: int, like: Any) -> Any:
    """Zeros for `count` vectors, aligned to a vector: a load across two cache lines takes twice as long."""
    room = np.zeros((count + 1) * LANES, like.dtype)
    first = (-(room.ctypes.data // like.itemsize)) % LANES
    return room[first : first + count * LANES]


@_kernel
def _pixel_lanes(train: Any, group: int, outside: Any, padding: int, pitch: int, margin: int, lanes: Any) -> None:
    """Sixteen images into lanes [H + 2 padding, C, pitch, 16]; the last group repeats the last image."""
    count, channels, height, width = train.shape
    for u in range(height + 2 * padding):
        for c in range(channels):
            row = (u * channels + c) * pitch + margin
            for x in range(width + 2 * padding):
                store(lanes, (row + x) * LANES, splat(outside))
            if padding <= u < height + padding:
                for lane in range(LANES):
                    image = min(group * LANES + lane, count - 1)
                    for x in range(width):
                        lanes[(row + padding + x) * LANES + lane] = train[image, c, u - padding, x]


@_kernel
def _block_lanes(pixels: Any, rows: int, columns: int, channels: int, pitch: int, r: int, lanes: Any) -> None:
    """Sum of every r x r block over r, at every pixel."""
    share = splat(lanes.dtype.type(1 / r))
    for u in range(rows):
        for c in range(channels):
            for x in range(columns):
                total = splat(lanes.dtype.type(0))
                for i in range(r):
                    for j in range(r):
                        total = total + load(pixels, (((u + i) * channels + c) * pitch + x + j) * LANES)
                store(lanes, ((u * channels + c) * pitch + x) * LANES, total * share)


@_kernel
def _difference_row(
    query: Any, q: int, query_pitch: int, lanes: Any, y: int, pitch: int, channels: int, shifts: Any, wide: int,
    dilation: int, ones: Any, twos: Any,
) -> None:  # fmt: skip
    """ones[dilation + x, e] = sum over channels of (query[q + x] - lanes[y + x + shifts[e]]) ** 2, for e < ABREAST.

    And twos[x, e] = ones[x, e] + ones[x + dilation, e]: the first terms of all window sums.
    """
    offset = dilation * ABREAST
    for x in range(wide):
        if channels == 3:
            a0, a1 = splat(query[q + x]), splat(query[q + query_pitch + x])
            a2 = splat(query[q + 2 * query_pitch + x])
            for e in range(ABREAST):
                b = (y + x + shifts[e]) * LANES
                d0, d1 = a0 - load(lanes, b), a1 - load(lanes, b + pitch * LANES)
                d2 = a2 - load(lanes, b + 2 * pitch * LANES)
                square = fma(d2, d2, fma(d1, d1, d0 * d0))
                store(ones, (offset + x * ABREAST + e) * LANES, square)
                store(twos, (x * ABREAST + e) * LANES, square + load(ones, (x * ABREAST + e) * LANES))
        else:
            for e in range(ABREAST):
                b = (y + x + shifts[e]) * LANES
                d0 = splat(query[q + x]) - load(lanes, b)
                square = d0 * d0
                for c in range(1, channels):
                    d0 = splat(query[q + c * query_pitch + x]) - load(lanes, b + c * pitch * LANES)
                    square = fma(d0, d0, square)
                store(ones, (offset + x * ABREAST + e) * LANES, square)
                store(twos, (x * ABREAST + e) * LANES, square + load(ones, (x * ABREAST + e) * LANES))


@_kernel
def _window_sums(ones: Any, twos: Any, fours: Any, out: Any, first: int, n: int, taps: int, step: int) -> None:
    """out[first + j] = sum of ones[step + j + i * step] over i < taps, made of sums of four, two and one."""
    pairs, odd, last = taps // 2, taps % 2 == 1, taps * step
    if taps == 1:
        for j in range(n):
            store(out, (first + j) * LANES, load(ones, (step + j) * LANES))
    elif taps < 8:
        for j in range(n):
            total = load(twos, (step + j) * LANES)
            if pairs > 1:
                total = total + load(twos, (3 * step + j) * LANES)
            if pairs > 2:
                total = total + load(twos, (5 * step + j) * LANES)
            if odd:
                total = total + load(ones, (last + j) * LANES)
            store(out, (first + j) * LANES, total)
    else:
        quads, pair = taps // 4, taps % 4 >= 2
        for j in range(n + (quads - 1) * 4 * step):
            store(fours, j * LANES, load(twos, (step + j) * LANES) + load(twos, (3 * step + j) * LANES))
        for j in range(n):
            total = load(fours, j * LANES) + load(fours, (j + 4 * step) * LANES)
            for i in range(2, quads):
                total = total + load(fours, (j + 4 * i * step) * LANES)
            if pair:
                total = total + load(twos, (j + (4 * quads + 1) * step) * LANES)
            if odd:
                total = total + load(ones, (last + j) * LANES)
            store(out, (first + j) * LANES, total)


@_kernel
def _insert(best: Any, first: int, k: int, distance: Any) -> None:
    """Put distances among the k smallest of each lane, kept in ascending order from vector `first`."""
    if any_below(distance, load(best, (first + k - 1) * LANES)):
        for i in range(first, first + k):
            kept = load(best, i * LANES)
            store(best, i * LANES, smaller(kept, distance))
            distance = larger(kept, distance)


@_kernel
def _sum_of_best(best: Any, first: int, k: int, reference: Any, bits: Any) -> Any:
    total = exp2(splat(reference) - load(best, first * LANES) * splat(bits))
    for i in range(first + 1, first + k):
        total = total + exp2(splat(reference) - load(best, i * LANES) * splat(bits))
    return total


@_kernel
def _add_pixels(
    weight: Any, pixels: Any, first: int, pitch: int, channels: int, span: Any, image_columns: int, found: Any
) -> None:
    """Add weighted pixels of sixteen images, and the weight itself, at the pixels of a span: found [H, W, C + 1, 16].

    The training pixel that comes to row 0 and column 0 is at `first`, in lanes [rows, C, pitch, 16].
    """
    for y in range(span[0], span[1]):
        for x in range(span[2], span[3]):
            target = (y * image_columns + x) * (channels + 1)
            for c in range(channels):
                pixel = load(pixels, (first + (y * channels + c) * pitch + x) * LANES)
                store(found, (target + c) * LANES, fma(weight, pixel, load(found, (target + c) * LANES)))
            store(found, (target + channels) * LANES, load(found, (target + channels) * LANES) + weight)


@_kernel
def _column_distances(
    sums: Any, tails: Any, distances: Any, n: int, at: int, taps: int, first: int, stop: int, place_of: Any, place: int,
    cuts: Any, offset: int,
) -> Any:  # fmt: skip
    """Distances of the windows that end in rows first .. stop - 1 of a block, at one place of its rows.

    `sums` are those of the block's rows; `tails` those of the block before, from each row to its end, and become the
    block's own. Returns the smallest of distance less cut.
    """
    head = load(sums, at * LANES)
    lowest = splat(distances.dtype.type(np.inf))
    for i in range(stop):
        if i > 0:
            head = head + load(sums, (i * n + at) * LANES)
        if i >= first:
            distance = head
            if i < taps - 1:
                distance = head + load(tails, ((i + 1) * n + at) * LANES)
            store(distances, i * LANES, distance)
            lowest = smaller(lowest, distance - splat(cuts[place_of[i] + place + offset]))
    if stop == taps:
        tail = load(sums, ((taps - 1) * n + at) * LANES)
        store(tails, ((taps - 1) * n + at) * LANES, tail)
        for i in range(taps - 2, 0, -1):
            tail = tail + load(sums, (i * n + at) * LANES)
            store(tails, (i * n + at) * LANES, tail)
    return lowest


@_kernel
def _weigh(
    sums: Any, tails: Any, distances: Any, n: int, taps: int, first: int, stop: int, column_plan: Any, b0: int, b1: int,
    left: int, query_stride: int, train_stride: int, place_of: Any, counts: Any, train_rows: Any, cuts: Any,
    references: Any, offset: int, bits: Any, purpose: int, k: int, found: Any, best: Any,
) -> int:  # fmt: skip
    """What `sweep` makes of the windows that end in rows first .. stop - 1 of a block, at displacements b0 .. b1 - 1.

    `place_of` and `train_rows` are the rows' first positions on the query's and the training images' grids; `counts`
    tells which rows are on them. Returns how many vectors were left out.
    """
    left_out = 0
    for b in range(b0, b1):
        dx, c0, c1, column_step = column_plan[b]
        place = c0 // query_stride
        for c in range(c0, c1, column_step):
            at = (c - left) * ABREAST + b - b0
            lowest = _column_distances(
                sums, tails, distances, n, at, taps, first, stop, place_of, place, cuts, offset
            )  # fmt: skip
            if any_below(lowest, splat(distances.dtype.type(0))):
                for i in range(first, stop):
                    if not counts[i]:
                        continue
                    p = place_of[i] + place
                    distance = load(distances, i * LANES)
                    if purpose == NEAREST:
                        store(found, p * LANES, smaller(load(found, p * LANES), distance))
                        continue
                    target = p
                    if purpose == ONTO_TRAIN:
                        target = train_rows[i] + (c + dx) // train_stride
                    weight = exp2(splat(references[p + offset]) - distance * splat(bits))
                    store(found, target * LANES, load(found, target * LANES) + weight)
                    if purpose == BEST:
                        _insert(best, p * k, k, distance)
            else:
                left_out += stop - first
            place += column_step // query_stride
    return left_out


@_kernel
def _weigh_pixels(
    sums: Any, tails: Any, distances: Any, n: int, taps: int, first: int, stop: int, column_plan: Any, b0: int, b1: int,
    left: int, query_stride: int, place_of: Any, counts: Any, cuts: Any, references: Any, offset: int, bits: Any,
    found: Any, pixels: Any, origin: int, pitch: int, channels: int, spans: Any, image_columns: int,
) -> int:  # fmt: skip
    """The same for `ONTO_PIXELS`, apart because the loop of the other purposes is slower with this one in it.

    `origin` is where in `pixels` the training pixel lies that comes to row 0 and column 0 at the displacement (dy, 0).
    """
    left_out = 0
    for b in range(b0, b1):
        dx, c0, c1, column_step = column_plan[b]
        place = c0 // query_stride
        for c in range(c0, c1, column_step):
            at = (c - left) * ABREAST + b - b0
            lowest = _column_distances(
                sums, tails, distances, n, at, taps, first, stop, place_of, place, cuts, offset
            )  # fmt: skip
            if any_below(lowest, splat(distances.dtype.type(0))):
                for i in range(first, stop):
                    if counts[i]:
                        p = place_of[i] + place
                        weight = exp2(splat(references[p + offset]) - load(distances, i * LANES) * splat(bits))
                        _add_pixels(weight, pixels, origin + dx, pitch, channels, spans[p], image_columns, found)
            else:
                left_out += stop - first
            place += column_step // query_stride
    return left_out


@_parallel_kernel
def sweep(
    train: Any, outside: Any, queries: Any, row_plan: Any, column_plan: Any, taps: int, downscale: int, padding: int,
    query_stride: int, train_stride: int, query_columns: int, train_columns: int, bits: Any, reference: Any, cut: Any,
    purpose: int, k: int, spans: Any, out: Any, best_out: Any, skipped: Any,
) -> None:  # fmt: skip
    """Distances of all planned pairs of windows, of all queries and images, and what `purpose` makes of them.

    train [N, C, H, W]; queries [V, H', C, W'], block means of the padded query; bits [V]; reference and cut [V, P].
    With w = 2 ** (reference[p] - D(p, q) * bits), and 0 where D is not below cut[p] in any of up to `taps` pairs one
    below the other of sixteen images:
    SUM: out [parts, V, >= N, P], the sum of w over an image's windows q. BEST: also best_out, over its k nearest.
    ONTO_TRAIN: out [parts, V, >= N, Q], the sum over p. NEAREST: out [parts, V, >= N, P], the smallest distance.
    ONTO_PIXELS: out [parts, V, N / 16, H * W * (C + 1)]: for the pixels of the query in rows spans[p, 0] .. spans[p, 1]
    and columns spans[p, 2] .. spans[p, 3] (the ends not included) the sum over p, and over sixteen images, of w times
    the training pixel at the same place in the window, and of w.
    `parts` share the displacements; skipped [parts * groups] counts the vectors of pairs left out.
    """
    channels, height, width = train.shape[1], train.shape[2] + 2 * padding, train.shape[3] + 2 * padding
    rows, columns = height - downscale + 1, width - downscale + 1
    margin = 0  # displacements side by side reach this far over the ends of a row
    for b in range(0, column_plan.shape[0], ABREAST):
        margin = max(margin, column_plan[min(b + ABREAST, column_plan.shape[0]) - 1, 0] - column_plan[b, 0])
    pitch = width + 2 * margin
    parts, targets = out.shape[0], out.shape[3]
    query, references, cuts = queries.reshape(-1), reference.reshape(-1), cut.reshape(-1)
    positions = reference.shape[1]
    groups = -(-train.shape[0] // LANES)
    step = downscale * ABREAST
    for item in numba.prange(groups * parts):
        group, part = item // parts, item % parts
        lanes = _vectors(rows * channels * pitch, queries)
        pixels = lanes
        if downscale == 1:
            _pixel_lanes(train, group, outside, padding, pitch, margin, lanes)
        else:
            pixels = _vectors(height * channels * pitch, queries)
            _pixel_lanes(train, group, outside, padding, pitch, margin, pixels)
            _block_lanes(pixels, rows, width - downscale + 1 + 2 * margin, channels, pitch, downscale, lanes)
        ones = _vectors((columns + downscale) * ABREAST, queries)
        twos, fours = _vectors(columns * ABREAST, queries), _vectors(columns * ABREAST, queries)
        sums = _vectors(taps * columns * ABREAST, queries)  # of the rows of windows, a block of `taps` rows
        tails = _vectors(taps * columns * ABREAST, queries)  # of the block before, summed up from its end
        distances = _vectors(taps, queries)
        shifts = np.empty(ABREAST, np.int64)
        place_of, train_rows, counts = np.empty(taps, np.int64), np.empty(taps, np.int64), np.empty(taps, np.bool_)
        found = _vectors(targets, queries)
        best = _vectors(targets * k if purpose == BEST else 0, queries)
        left_out = 0
        for v in range(queries.shape[0]):
            found[:] = queries.dtype.type(np.inf if purpose == NEAREST else 0)
            best[:] = queries.dtype.type(np.inf)
            for a in range(part, row_plan.shape[0], parts):
                dy, r0, r1, row_step = row_plan[a]
                origin = (dy + padding) * channels * pitch + margin + padding
                for b0 in range(0, column_plan.shape[0], ABREAST):
                    b1 = min(b0 + ABREAST, column_plan.shape[0])
                    left, right = column_plan[b0, 1], column_plan[b0, 2]
                    for e in range(ABREAST):
                        b = min(b0 + e, b1 - 1)
                        shifts[e] = column_plan[b, 0]
                        left, right = min(left, column_plan[b, 1]), max(right, column_plan[b, 2])
                    n = (right - left) * ABREAST
                    wide = right - left + (taps - 1) * downscale
                    for phase in range(min(downscale, r1 - r0)):  # rows of blocks that belong together
                        if row_step % downscale == 0 and phase > 0:
                            continue
                        tall = (r1 - r0 - phase + downscale - 1) // downscale + taps - 1
                        for start in range(0, tall, taps):
                            stop = min(taps, tall - start)
                            for i in range(stop):
                                u = r0 + phase + (start + i) * downscale
                                _difference_row(
                                    query, (v * rows + u) * channels * columns + left, columns,
                                    lanes, (u + dy) * channels * pitch + left + margin, pitch,
                                    channels, shifts, wide, downscale, ones, twos,
                                )  # fmt: skip
                                _window_sums(ones, twos, fours, sums, i * n, n, taps, step)
                            first = max(0, taps - 1 - start)  # row of the block where the first window ends
                            for i in range(first, stop):
                                row = phase + (start + i - taps + 1) * downscale
                                place_of[i] = (r0 + row) // query_stride * query_columns
                                train_rows[i] = (r0 + row + dy) // train_stride * train_columns
                                counts[i] = row_step == 1 or row % row_step == 0
                            if purpose == ONTO_PIXELS:
                                left_out += _weigh_pixels(
                                    sums, tails, distances, n, taps, first, stop, column_plan, b0, b1, left,
                                    query_stride, place_of, counts, cuts, references, v * positions, bits[v], found,
                                    pixels, origin, pitch, channels, spans, train.shape[3],
                                )  # fmt: skip
                                continue
                            left_out += _weigh(
                                sums, tails, distances, n, taps, first, stop, column_plan, b0, b1, left, query_stride,
                                train_stride, place_of, counts, train_rows, cuts, references, v * positions, bits[v],
                                purpose, k, found, best,
                            )  # fmt: skip
            if purpose == ONTO_PIXELS:
                images = min(LANES, train.shape[0] - group * LANES)
                for p in range(targets):
                    out[part, v, group, p] = found[p * LANES : p * LANES + images].sum()
                continue
            for lane in range(LANES):
                for p in range(targets):
                    out[part, v, group * LANES + lane, p] = found[p * LANES + lane]
            if purpose == BEST:
                for p in range(targets):
                    counted = _sum_of_best(best, p * k, k, references[v * positions + p], bits[v])
                    store(found, p * LANES, counted)
                for lane in range(LANES):
                    for p in range(targets):
                        best_out[v, group * LANES + lane, p] = found[p * LANES + lane]
        skipped[item] = left_out
