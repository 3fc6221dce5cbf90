"""The Triton kernel of the GPU backend. Imported where it runs: Triton is optional.

A tile is up to ROWS pairs of rows (u of the query, v of the training image), runs of neighbouring rows at one vertical
displacement, packed so that few are empty. A program takes one tile, IMAGES training images and some horizontal
displacements, and walks along the columns. The horizontal window sum is a running one; it is kept in integers, so that
what was added is taken away without a trace. The vertical window sum is a product with a band of ones on the tensor
cores. Nothing of size positions x positions exists.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _squared_difference(query, train, images, query_step, train_step, inside, CHANNELS: tl.constexpr):
    """Square the differences of one column of a tile, summed over channels: int32 [ROWS, IMAGES].

    Pixels come scaled to whole numbers. query and train [ROWS] point at the first channel, train at the first image;
    the steps lead to the next channel.
    """
    total = tl.zeros((inside.shape[0], images.shape[0]), tl.float32)  # [ROWS, IMAGES]
    for c in tl.static_range(CHANNELS):
        a = tl.load(query + c * query_step, mask=inside, other=0.0)  # [ROWS]
        at = (train + c * train_step)[:, None] + images[None, :]  # [ROWS, IMAGES]
        difference = a[:, None] - tl.load(at, mask=inside[:, None], other=0.0)  # [ROWS, IMAGES]
        total += difference * difference  # [ROWS, IMAGES]
    return (total + 0.5).to(tl.int32)  # [ROWS, IMAGES]


@triton.jit
def sweep(
    query, train, tiles, runs, limits, bits, reference, out,
    images_given, count, query_size, query_width, train_width, positions, chunks,
    PURPOSE: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr, DOWNSCALE: tl.constexpr,
    ROWS: tl.constexpr, IMAGES: tl.constexpr,
):  # fmt: skip
    """Sweep one tile, one block of images, one chunk of runs along the columns, for one query.

    query [V, H', C, W'] and train [H', C, W', count] in units in which a squared difference is a whole number; tiles
    [T, 3, ROWS]: u, v and the first index of the grid row of the window that starts at u (-1: none); runs [R, 6]: x,
    dx, number of positions, every how many of them counts, column of the first, columns between them; limits
    [chunks + 1]: the runs of a chunk; bits [V]; reference [V, P].
    "nearest": out int32 [V, P], the smallest distance's bits. "totals": out [V, P], the weights 2 ** ((reference[p] -
    D) * bits) summed over images and windows. "scores": out [V, T * chunks, count], summed over both windows.
    """
    block, part, view = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    tile, chunk = part // chunks, part % chunks
    slot = tl.arange(0, ROWS)  # [ROWS]
    images = block * IMAGES + tl.arange(0, IMAGES)  # [IMAGES]
    query_row = tl.load(tiles + (tile * 3) * ROWS + slot)  # [ROWS]
    train_row = tl.load(tiles + (tile * 3 + 1) * ROWS + slot)  # [ROWS]
    grid_row = tl.load(tiles + (tile * 3 + 2) * ROWS + slot)  # [ROWS]
    inside, starts = query_row >= 0, grid_row >= 0  # [ROWS]
    matters = starts[:, None] & (images < images_given)[None, :]  # [ROWS, IMAGES]
    below = slot[None, :] - slot[:, None]  # [ROWS, ROWS]
    band = ((below >= 0) & (below < TAPS)).to(tl.float32)  # [ROWS, ROWS]
    unit = tl.load(bits + view)
    query_at = query + view * query_size + query_row * CHANNELS * query_width  # [ROWS]
    train_at = train + (train_row * CHANNELS * train_width).to(tl.int64) * count  # [ROWS]
    train_step = (tl.zeros((), tl.int64) + train_width) * count
    score = tl.zeros((IMAGES,), tl.float32)  # [IMAGES]
    for run in range(tl.load(limits + chunk), tl.load(limits + chunk + 1)):
        x0, dx = tl.load(runs + run * 6), tl.load(runs + run * 6 + 1)
        length, period = tl.load(runs + run * 6 + 2), tl.load(runs + run * 6 + 3)
        column, columns = tl.load(runs + run * 6 + 4), tl.load(runs + run * 6 + 5)
        sums = tl.zeros((ROWS, IMAGES), tl.int32)  # [ROWS, IMAGES]
        for j in range(length + TAPS - 1):
            x = x0 + j * DOWNSCALE
            here, there = query_at + x, train_at + (x + dx).to(tl.int64) * count  # [ROWS]
            sums += _squared_difference(here, there, images, query_width, train_step, inside, CHANNELS)
            if j >= TAPS:
                here -= TAPS * DOWNSCALE  # [ROWS]
                there -= count * (TAPS * DOWNSCALE)  # [ROWS]
                sums -= _squared_difference(here, there, images, query_width, train_step, inside, CHANNELS)
            place = j - (TAPS - 1)
            if (place >= 0) & (place % period == 0):
                # 3 x tf32 splits each sum in parts of 11 bits; the band is exact in one.
                distance = tl.dot(band, sums.to(tl.float32), input_precision="tf32x3")  # [ROWS, IMAGES]
                p = view * positions + grid_row + column + place // period * columns  # [ROWS]
                if PURPOSE == "nearest":
                    nearest = tl.min(tl.where(matters, distance, float("inf")), axis=1)  # [ROWS]
                    tl.atomic_min(out + p, nearest.to(tl.int32, bitcast=True), mask=starts)
                else:
                    near = tl.load(reference + p, mask=starts, other=0.0)  # [ROWS]
                    weight = tl.exp2(tl.minimum((near[:, None] - distance) * unit, 126.0))  # [ROWS, IMAGES]
                    weight = tl.where(matters, weight, 0.0)  # [ROWS, IMAGES]
                    if PURPOSE == "totals":
                        tl.atomic_add(out + p, tl.sum(weight, axis=1), mask=starts)
                    else:
                        score += tl.sum(weight, axis=0)  # [IMAGES]
    if PURPOSE == "scores":
        parts = tl.num_programs(1)
        tl.store(out + (view * parts + part).to(tl.int64) * count + images, score)
