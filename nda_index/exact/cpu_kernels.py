"""The Numba loops of the CPU backend: a sweep over displacements, and what becomes of the distances.

Arguments are grouped in named tuples, which cost nothing: Numba passes their parts. What loops call often takes only
the tuples it needs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.exact.cpu_distances import (
    ABREAST,
    Block,
    Floats,
    Images,
    Integers,
    Rows,
    Shape,
    block_lanes,
    column_distances,
    difference_row,
    pixel_lanes,
    sum_windows,
    vectors,
)
from nda_index.exact.simd import (
    LANES,
    allocating_kernel,
    any_below,
    exp2,
    fma,
    kernel,
    larger,
    load,
    parallel_kernel,
    smaller,
    splat,
    store,
)

# What becomes of a pair's distance.
SUM, BEST, NEAREST, ONTO_TRAIN, ONTO_PIXELS = 0, 1, 2, 3, 4


class Plan(NamedTuple):
    """Which pairs of windows are compared.

    rows, columns: int64 [displacements, 4], those of a `PairPlan`.
    query_columns, train_columns: of the grids of windows.
    """

    rows: Integers
    columns: Integers
    taps: int
    downscale: int
    padding: int
    query_stride: int
    train_stride: int
    query_columns: int
    train_columns: int


class Limits(NamedTuple):
    """Weights are 2 ** (reference - distance * bits), and 0 where the distance is not below the cut.

    bits: [V]; references, cuts: [V, P].
    """

    bits: Floats
    references: Floats
    cuts: Floats


class Purpose(NamedTuple):
    """What becomes of a pair's distance.

    kind: SUM, BEST, NEAREST, ONTO_TRAIN or ONTO_PIXELS.
    k: of BEST.
    spans: of ONTO_PIXELS, int64 [P, 4]: first row, end of rows, first column and end of columns.
    """

    kind: int
    k: int
    spans: Integers


class Results(NamedTuple):
    """Where `sweep` writes: out [parts, V, N or groups, targets], best [V, N, P], left_out int64 [groups * parts]."""

    out: Floats
    best: Floats
    left_out: Integers


class _Weigher(NamedTuple):
    """The limits of one query, [P] each, and its sums over what a group of images adds to them.

    sums: [targets]; best: [P, k], the smallest distances in ascending order.
    """

    bits: Any
    references: Floats
    cuts: Floats
    kind: int
    k: int
    sums: Floats
    best: Floats


class _Strip(NamedTuple):
    """Displacements columns[b0] .. columns[b1 - 1] side by side; the first window among them is at column `left`."""

    columns: Integers
    b0: int
    b1: int
    left: int
    query_stride: int
    train_stride: int


class _GridRows(NamedTuple):
    """The rows of windows in a block: the first place on the query's and the training grid; whether it is on them."""

    query: Integers
    train: Integers
    counts: NDArray[np.bool_]


class _Pixels(NamedTuple):
    """Training pixels as lanes [rows, C, pitch], and which of them go where.

    origin: where the training pixel lies that comes to row 0 and column 0 at the displacement (dy, 0).
    width: of the query.
    """

    lanes: Floats
    origin: int
    pitch: int
    channels: int
    width: int
    spans: Integers


class _Buffers(NamedTuple):
    """What one thread needs for a group of images."""

    shape: Shape
    lanes: Floats
    pixels: Floats
    shifts: Integers
    rows: Rows
    block: Block
    grid_rows: _GridRows


@kernel
def _insert(best: Floats, first: int, k: int, distance: Any) -> None:
    """Put distances among the k smallest of each lane, kept in ascending order from vector `first`."""
    if any_below(distance, load(best, (first + k - 1) * LANES)):
        for i in range(first, first + k):
            kept = load(best, i * LANES)
            store(best, i * LANES, smaller(kept, distance))
            distance = larger(kept, distance)


@kernel
def _sum_best(weigher: _Weigher, p: int) -> Any:
    """Sum the weights of the k smallest distances at a position."""
    reference, bits, first = splat(weigher.references[p]), splat(weigher.bits), p * weigher.k
    total = exp2(reference - load(weigher.best, first * LANES) * bits)
    for i in range(first + 1, first + weigher.k):
        total = total + exp2(reference - load(weigher.best, i * LANES) * bits)
    return total


@kernel
def _add_pixels(weight: Any, pixels: _Pixels, dx: int, span: Integers, sums: Floats) -> None:
    """Add weighted pixels of sixteen images, and the weight itself, at the pixels of a span: sums [H, W, C + 1]."""
    channels, first = pixels.channels, pixels.origin + dx
    for y in range(span[0], span[1]):
        for x in range(span[2], span[3]):
            target = (y * pixels.width + x) * (channels + 1)
            for c in range(channels):
                pixel = load(pixels.lanes, (first + (y * channels + c) * pixels.pitch + x) * LANES)
                store(sums, (target + c) * LANES, fma(weight, pixel, load(sums, (target + c) * LANES)))
            store(sums, (target + channels) * LANES, load(sums, (target + channels) * LANES) + weight)


@kernel
def _weigh(block: Block, first: int, stop: int, strip: _Strip, grid_rows: _GridRows, weigher: _Weigher) -> int:
    """Weigh the windows that end in rows first .. stop - 1 of a block. Returns how many vectors were left out."""
    left_out = 0
    for b in range(strip.b0, strip.b1):
        dx, c0, c1, column_step = strip.columns[b]
        place = c0 // strip.query_stride
        for c in range(c0, c1, column_step):
            at = (c - strip.left) * ABREAST + b - strip.b0
            lowest = column_distances(block, first, stop, at, grid_rows.query, place, weigher.cuts)
            if any_below(lowest, splat(block.distances.dtype.type(0))):
                for i in range(first, stop):
                    if not grid_rows.counts[i]:
                        continue
                    p = grid_rows.query[i] + place
                    distance = load(block.distances, i * LANES)
                    if weigher.kind == NEAREST:
                        store(weigher.sums, p * LANES, smaller(load(weigher.sums, p * LANES), distance))
                        continue
                    target = p
                    if weigher.kind == ONTO_TRAIN:
                        target = grid_rows.train[i] + (c + dx) // strip.train_stride
                    weight = exp2(splat(weigher.references[p]) - distance * splat(weigher.bits))
                    store(weigher.sums, target * LANES, load(weigher.sums, target * LANES) + weight)
                    if weigher.kind == BEST:
                        _insert(weigher.best, p * weigher.k, weigher.k, distance)
            else:
                left_out += stop - first
            place += column_step // strip.query_stride
    return left_out


@kernel
def _weigh_pixels(
    block: Block, first: int, stop: int, strip: _Strip, grid_rows: _GridRows, weigher: _Weigher, pixels: _Pixels
) -> int:
    """Do the same for ONTO_PIXELS, apart because the loop of the other purposes is slower with this one in it."""
    left_out = 0
    for b in range(strip.b0, strip.b1):
        dx, c0, c1, column_step = strip.columns[b]
        place = c0 // strip.query_stride
        for c in range(c0, c1, column_step):
            at = (c - strip.left) * ABREAST + b - strip.b0
            lowest = column_distances(block, first, stop, at, grid_rows.query, place, weigher.cuts)
            if any_below(lowest, splat(block.distances.dtype.type(0))):
                for i in range(first, stop):
                    if grid_rows.counts[i]:
                        p = grid_rows.query[i] + place
                        distance = load(block.distances, i * LANES)
                        weight = exp2(splat(weigher.references[p]) - distance * splat(weigher.bits))
                        _add_pixels(weight, pixels, dx, pixels.spans[p], weigher.sums)
            else:
                left_out += stop - first
            place += column_step // strip.query_stride
    return left_out


@kernel
def _sweep_strip(
    query: Floats, plan: Plan, a: int, b0: int, weigher: _Weigher, spans: Integers, buffers: _Buffers
) -> int:
    """Weigh the pairs of one query at vertical displacement a and the horizontal ones from b0 on, side by side."""
    shape, block, rows, grid_rows = buffers.shape, buffers.block, buffers.rows, buffers.grid_rows
    taps, downscale, channels, pitch = plan.taps, plan.downscale, shape.channels, shape.pitch
    dy, r0, r1, row_step = plan.rows[a]
    b1 = min(b0 + ABREAST, plan.columns.shape[0])
    left, right = plan.columns[b0, 1], plan.columns[b0, 2]
    for e in range(ABREAST):
        b = min(b0 + e, b1 - 1)
        buffers.shifts[e] = plan.columns[b, 0]
        left, right = min(left, plan.columns[b, 1]), max(right, plan.columns[b, 2])
    strip = _Strip(plan.columns, b0, b1, left, plan.query_stride, plan.train_stride)
    block = Block(block.sums, block.tails, block.distances, (right - left) * ABREAST, taps)
    origin = (dy + plan.padding) * channels * pitch + shape.margin + plan.padding
    pixels = _Pixels(buffers.pixels, origin, pitch, channels, shape.width, spans)
    width = right - left + (taps - 1) * downscale
    left_out = 0
    for phase in range(min(downscale, r1 - r0)):  # rows of blocks that belong together
        if row_step % downscale == 0 and phase > 0:
            continue
        tall = (r1 - r0 - phase + downscale - 1) // downscale + taps - 1
        for start in range(0, tall, taps):
            stop = min(taps, tall - start)
            for i in range(stop):
                u = r0 + phase + (start + i) * downscale
                q, y = u * channels * shape.columns + left, (u + dy) * channels * pitch + left + shape.margin
                difference_row(query, q, buffers.lanes, y, buffers.shifts, width, shape, rows)
                sum_windows(rows, block.sums, i * block.wide, block.wide, taps, downscale * ABREAST)
            first = max(0, taps - 1 - start)  # row of the block where the first window ends
            for i in range(first, stop):
                row = phase + (start + i - taps + 1) * downscale
                grid_rows.query[i] = (r0 + row) // plan.query_stride * plan.query_columns
                grid_rows.train[i] = (r0 + row + dy) // plan.train_stride * plan.train_columns
                grid_rows.counts[i] = row_step == 1 or row % row_step == 0
            if weigher.kind == ONTO_PIXELS:
                left_out += _weigh_pixels(block, first, stop, strip, grid_rows, weigher, pixels)
            else:
                left_out += _weigh(block, first, stop, strip, grid_rows, weigher)
    return left_out


@allocating_kernel
def _buffers(images: Images, plan: Plan, group: int) -> _Buffers:
    """Return the buffers for a group of sixteen images, with their pixels."""
    rows, columns = images.queries.shape[1], images.queries.shape[3]
    margin, count, taps = 0, plan.columns.shape[0], plan.taps
    for b in range(0, count, ABREAST):
        margin = max(margin, plan.columns[min(b + ABREAST, count) - 1, 0] - plan.columns[b, 0])
    pitch = columns + plan.downscale - 1 + 2 * margin
    shape = Shape(images.train.shape[1], images.train.shape[3], rows, columns, pitch, margin, plan.downscale)
    pixels = pixel_lanes(images, shape, plan.padding, group)
    lanes = pixels if plan.downscale == 1 else block_lanes(pixels, shape)
    abreast, like = columns * ABREAST, images.queries
    sums = Rows(vectors(abreast + plan.downscale * ABREAST, like), vectors(abreast, like), vectors(abreast, like))
    block = Block(vectors(taps * abreast, like), vectors(taps * abreast, like), vectors(taps, like), 0, taps)
    grid_rows = _GridRows(np.empty(taps, np.int64), np.empty(taps, np.int64), np.empty(taps, np.bool_))
    return _Buffers(shape, lanes, pixels, np.empty(ABREAST, np.int64), sums, block, grid_rows)


@kernel
def _write(results: Results, part: int, v: int, group: int, images: int, weigher: _Weigher) -> None:
    """Write the sums of one query and group of images, the lanes side by side or, onto pixels, added up."""
    sums, targets = weigher.sums, results.out.shape[3]
    if weigher.kind == ONTO_PIXELS:
        for p in range(targets):
            results.out[part, v, group, p] = sums[p * LANES : p * LANES + images].sum()
        return
    for lane in range(LANES):
        for p in range(targets):
            results.out[part, v, group * LANES + lane, p] = sums[p * LANES + lane]
    if weigher.kind == BEST:
        for p in range(targets):
            store(sums, p * LANES, _sum_best(weigher, p))
        for lane in range(LANES):
            for p in range(targets):
                results.best[v, group * LANES + lane, p] = sums[p * LANES + lane]


@allocating_kernel
def _sweep_group(
    images: Images, plan: Plan, limits: Limits, purpose: Purpose, results: Results, group: int, part: int
) -> None:
    """Compare all queries with sixteen images at a part of the vertical displacements."""
    queries, kind, k = images.queries, purpose.kind, purpose.k
    parts, targets = results.out.shape[0], results.out.shape[3]
    buffers = _buffers(images, plan, group)
    sums, best = vectors(targets, queries), vectors(targets * k if kind == BEST else 0, queries)
    left_out = 0
    for v in range(queries.shape[0]):
        sums[:] = queries.dtype.type(np.inf if kind == NEAREST else 0)
        best[:] = queries.dtype.type(np.inf)
        weigher = _Weigher(limits.bits[v], limits.references[v], limits.cuts[v], kind, k, sums, best)
        query = queries[v].reshape(-1)
        for a in range(part, plan.rows.shape[0], parts):
            for b0 in range(0, plan.columns.shape[0], ABREAST):
                left_out += _sweep_strip(query, plan, a, b0, weigher, purpose.spans, buffers)
        _write(results, part, v, group, min(LANES, images.train.shape[0] - group * LANES), weigher)
    results.left_out[group * parts + part] = left_out


@parallel_kernel
def sweep(images: Images, plan: Plan, limits: Limits, purpose: Purpose, results: Results) -> None:
    """Compute the distances of all planned pairs of windows, of all queries and images, and use them for a purpose.

    With w = 2 ** (reference[p] - D(p, q) * bits), and 0 where D is not below cut[p] in any of up to `taps` pairs one
    below the other of sixteen images:
    SUM: out [parts, V, >= N, P], the sum of w over an image's windows q. BEST: also best, over its k nearest.
    ONTO_TRAIN: out [parts, V, >= N, Q], the sum over p. NEAREST: out [parts, V, >= N, P], the smallest distance.
    ONTO_PIXELS: out [parts, V, N / 16, H * W * (C + 1)]: for the pixels of the query in rows spans[p, 0] .. spans[p, 1]
    and columns spans[p, 2] .. spans[p, 3] (the ends not included) the sum over p, and over sixteen images, of w times
    the training pixel at the same place in the window, and of w.
    `parts` share the vertical displacements; left_out [groups * parts] counts the vectors of pairs left out.
    """
    parts = results.out.shape[0]
    for item in numba.prange(results.left_out.shape[0]):
        # Nothing is written here: Numba drops what a parallel loop itself writes to a named tuple's array.
        _sweep_group(images, plan, limits, purpose, results, item // parts, item % parts)
