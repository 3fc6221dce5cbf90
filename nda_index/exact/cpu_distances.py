"""The Numba loops from pixels to distances of windows, sixteen training images in the lanes of a vector.

Buffers are flat; an index counts vectors and `* LANES` makes it one of floats. Neighbouring displacements along a row
are worked on side by side (`ABREAST`): each value of the query is spread over the lanes once for all of them, and the
loops are long enough that leaving them costs little.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nda_index.exact.simd import LANES, allocating_kernel, fma, kernel, load, smaller, splat, store

ABREAST = 6  # displacements side by side: measured best of 1, 2, 4, 6, 8

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]


class Images(NamedTuple):
    """What is compared.

    train: [N, C, H, W].
    outside: the value of the pixels outside the training images.
    queries: [V, H', C, W'], block means of the padded queries.
    """

    train: Floats
    outside: Any
    queries: Floats


class Shape(NamedTuple):
    """How a query and the lanes of sixteen training images lie in memory, in rows of one channel.

    width: of an image in pixels.
    columns: length of a query's row, and number of block means in a row of the padded training image.
    pitch: vectors from one row of the lanes to the next.
    margin: vectors before and after a row; displacements side by side reach so far over its ends.
    """

    channels: int
    width: int
    rows: int
    columns: int
    pitch: int
    margin: int
    downscale: int


class Rows(NamedTuple):
    """Sums of one, two and four squared differences along a row, at every column of ABREAST displacements."""

    ones: Floats
    twos: Floats
    fours: Floats


class Block(NamedTuple):
    """As many rows of windows as a window is high.

    sums: of each row, over the columns of a window: [taps, wide].
    tails: the sums of the block before, added up from its end: [taps, wide].
    distances: [taps], those of one column.
    wide: vectors in a row.
    """

    sums: Floats
    tails: Floats
    distances: Floats
    wide: int
    taps: int


@allocating_kernel
def vectors(count: int, like: Floats) -> Floats:
    """Return zeros for `count` vectors, aligned to a vector: a load across two cache lines takes twice as long."""
    room = np.zeros((count + 1) * LANES, like.dtype)
    first = (-(room.ctypes.data // like.itemsize)) % LANES
    return room[first : first + count * LANES]


@allocating_kernel
def pixel_lanes(images: Images, shape: Shape, padding: int, group: int) -> Floats:
    """Return sixteen padded images as lanes [H + 2 padding, C, pitch]; the last group repeats the last image."""
    count, channels, height, width = images.train.shape
    lanes = vectors((height + 2 * padding) * channels * shape.pitch, images.queries)
    for u in range(height + 2 * padding):
        for c in range(channels):
            row = (u * channels + c) * shape.pitch + shape.margin
            for x in range(width + 2 * padding):
                store(lanes, (row + x) * LANES, splat(images.outside))
            if padding <= u < height + padding:
                for lane in range(LANES):
                    image = min(group * LANES + lane, count - 1)
                    for x in range(width):
                        lanes[(row + padding + x) * LANES + lane] = images.train[image, c, u - padding, x]
    return lanes


@allocating_kernel
def block_lanes(pixels: Floats, shape: Shape) -> Floats:
    """Return the sum of every r x r block over r, at every pixel: lanes [H', C, pitch]."""
    r = shape.downscale
    lanes = vectors(shape.rows * shape.channels * shape.pitch, pixels)
    share = splat(lanes.dtype.type(1 / r))
    for u in range(shape.rows):
        for c in range(shape.channels):
            for x in range(shape.columns + 2 * shape.margin):
                total = splat(lanes.dtype.type(0))
                for i in range(r):
                    for j in range(r):
                        total = total + load(pixels, (((u + i) * shape.channels + c) * shape.pitch + x + j) * LANES)
                store(lanes, ((u * shape.channels + c) * shape.pitch + x) * LANES, total * share)
    return lanes


@kernel
def difference_row(
    query: Floats, q: int, lanes: Floats, y: int, shifts: Integers, wide: int, shape: Shape, rows: Rows
) -> None:
    """Write the squared differences of a row, and their sums in pairs: the first terms of all window sums.

    For e < ABREAST and r the downscale
    ones[r + x, e] = sum over channels of (query[q + x] - lanes[y + x + shifts[e]]) ** 2, and
    twos[x, e] = ones[x, e] + ones[x + r, e].
    """
    ones, twos, pitch = rows.ones, rows.twos, shape.pitch
    offset = shape.downscale * ABREAST
    for x in range(wide):
        if shape.channels == 3:
            a0, a1 = splat(query[q + x]), splat(query[q + shape.columns + x])
            a2 = splat(query[q + 2 * shape.columns + x])
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
                for c in range(1, shape.channels):
                    d0 = splat(query[q + c * shape.columns + x]) - load(lanes, b + c * pitch * LANES)
                    square = fma(d0, d0, square)
                store(ones, (offset + x * ABREAST + e) * LANES, square)
                store(twos, (x * ABREAST + e) * LANES, square + load(ones, (x * ABREAST + e) * LANES))


@kernel
def sum_windows(rows: Rows, out: Floats, first: int, wide: int, taps: int, step: int) -> None:
    """Write out[first + j] = sum of ones[step + j + i * step] over i < taps, from sums of four, two and one."""
    ones, twos, fours = rows.ones, rows.twos, rows.fours
    pairs, odd, last = taps // 2, taps % 2 == 1, taps * step
    if taps == 1:
        for j in range(wide):
            store(out, (first + j) * LANES, load(ones, (step + j) * LANES))
    elif taps < 8:
        for j in range(wide):
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
        for j in range(wide + (quads - 1) * 4 * step):
            store(fours, j * LANES, load(twos, (step + j) * LANES) + load(twos, (3 * step + j) * LANES))
        for j in range(wide):
            total = load(fours, j * LANES) + load(fours, (j + 4 * step) * LANES)
            for i in range(2, quads):
                total = total + load(fours, (j + 4 * i * step) * LANES)
            if pair:
                total = total + load(twos, (j + (4 * quads + 1) * step) * LANES)
            if odd:
                total = total + load(ones, (last + j) * LANES)
            store(out, (first + j) * LANES, total)


@kernel
def column_distances(
    block: Block, first: int, stop: int, at: int, grid_rows: Integers, place: int, cuts: Floats
) -> Any:
    """Write the distances of the windows that end in rows first .. stop - 1 of a block, at one place of its rows.

    The block's tails become its own. The window that ends in row i is at grid_rows[i] + place of the query's grid.

    Returns:
        The smallest of distance less cut, a vector.
    """
    sums, tails, distances, wide, taps = block
    head = load(sums, at * LANES)
    lowest = splat(distances.dtype.type(np.inf))
    for i in range(stop):
        if i > 0:
            head = head + load(sums, (i * wide + at) * LANES)
        if i >= first:
            distance = head
            if i < taps - 1:
                distance = head + load(tails, ((i + 1) * wide + at) * LANES)
            store(distances, i * LANES, distance)
            lowest = smaller(lowest, distance - splat(cuts[grid_rows[i] + place]))
    if stop == taps:
        tail = load(sums, ((taps - 1) * wide + at) * LANES)
        store(tails, ((taps - 1) * wide + at) * LANES, tail)
        for i in range(taps - 2, 0, -1):
            tail = tail + load(sums, (i * wide + at) * LANES)
            store(tails, (i * wide + at) * LANES, tail)
    return lowest
