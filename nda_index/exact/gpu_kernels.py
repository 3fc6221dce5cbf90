"""The Triton kernels of the GPU backend. Imported where they run: Triton is optional.

A program has one training image and some tiles of its windows. It gathers a tile from the image itself, keeps it, and
multiplies it with tile after tile of the query's windows on tensor cores: of |x - y|^2 only |y|^2 - 2xy is computed,
since |x|^2 is the same for all training windows. Distance, exponential and sum over the tile's windows follow at once,
as in flash attention: nothing of size positions x positions leaves the registers.

No access needs a mask: tiles are whole, empty slots point at a window that exists, and `gpu_launch` checks a tiling's
tables when it makes them.
"""

from __future__ import annotations

import triton
import triton.language as tl

FAR = tl.constexpr(1e30)  # the distance of what is not compared: its weight is 0
# Numbers that a kernel is not compiled anew for.
SIZES = ["image_step", "out_step", "views", "slots", "tile_begin", "tile_end", "tiles_each"]


@triton.jit
def _gather(image, start, offset, FULL: tl.constexpr):
    """Read coordinates of windows from an image: fp16 [windows, coordinates], 0 where an offset is below 0.

    FULL says that none is. Windows are the first axis, so that the threads of a warp read neighbouring windows. An
    empty slot reads any window.
    """
    at = (image + tl.maximum(start, 0))[:, None] + offset[None, :]  # [BQ, K]
    if FULL:  # noqa: SIM108  # Triton's `if` on a constant compiles one side alone
        windows = tl.load(at)  # [BQ, K]
    else:
        windows = tl.load(at, mask=(offset >= 0)[None, :], other=0.0)  # [BQ, K]
    return windows


@triton.jit
def _norms(windows):
    """Sum the squares of windows [BQ, K]: float32 [BQ], exact where they are whole and below 2^24."""
    wide = windows.to(tl.float32)  # [BQ, K]
    return tl.sum(wide * wide, axis=1)  # [BQ]


@triton.jit
def _store(
    product, norms, norm_step, unit, reference, query_class, train_class, out,
    MASKED: tl.constexpr, NEAREST: tl.constexpr,
):  # fmt: skip
    """Turn products [BP, BQ] into distances less |x|^2, and add up their weights, or keep the smallest, at out [BP].

    query_class and out [BP] point at the query's windows; norms and train_class [BQ] are the training windows'.
    """
    distance = tl.fma(product, norm_step, norms[None, :])  # [BP, BQ]
    if MASKED:
        same = tl.load(query_class)[:, None] == train_class[None, :]  # [BP, BQ]
        distance = tl.where(same, distance, FAR)  # [BP, BQ]
    if NEAREST:
        nearest = tl.min(distance, axis=1).to(tl.int32, bitcast=True)  # [BP]
        # Bits of floats in the order of their numbers, also below 0.
        tl.atomic_min(out, nearest ^ ((nearest >> 31) & 0x7FFFFFFF), sem="relaxed")
    else:
        # One rounding, at the end: distance * unit alone may be far larger than the exponent that counts.
        weight = tl.exp2(tl.fma(distance, -unit, reference[:, None]))  # [BP, BQ]
        tl.atomic_add(out, tl.sum(weight, axis=1), sem="relaxed")


@triton.jit(do_not_specialize=SIZES)
def sweep(
    images, image_step, starts, train_classes, offsets, query, low, query_classes, units, reference,
    first, last, out, out_step, views, slots, tile_begin, tile_end, tiles_each, norm_step,
    COUNT: tl.constexpr, KA: tl.constexpr, KB: tl.constexpr, BP: tl.constexpr, BQ: tl.constexpr,
    LOW: tl.constexpr, MASKED: tl.constexpr, NEAREST: tl.constexpr,
):  # fmt: skip
    """Compare windows of one image with those of all queries, whole windows at a time.

    Args:
        images: fp16, whole numbers, `image_step` apart; program 0 of the grid counts them.
        starts, train_classes: int32 [train slots]. offsets: int32 [KA + KB], -1 where there is no coordinate.
        query, low: fp16 [V, slots, KA + KB], the two parts of the query's coordinates; `low` is read with LOW.
        query_classes: int32 [slots]; compared with MASKED.
        units: float [V], bits of one unit of distance. reference: float [V, slots], bits of weight 1.
        first, last: int32 [train tiles], the query's tiles that a tile meets; inside the image they are all the same.
        out: float [parts, V, N, slots], 0: masses are added, `out_step` from a view to the next. With NEAREST int32
            [V, slots], the ordered bits of the smallest distances to any image.
        tile_begin, tile_end, tiles_each: training tiles of BQ windows of this launch, and how many a program takes.
        norm_step: -2, times what the query's coordinates are divided by.
        COUNT: coordinates of a window, which KA + KB hold.
    """
    n, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    image = images + n * image_step
    ka = tl.arange(0, KA)  # [KA]
    begin = tile_begin + part * tiles_each
    for t in range(begin, tl.minimum(begin + tiles_each, tile_end)):
        q = t * BQ + tl.arange(0, BQ)  # [BQ]
        start, train_class = tl.load(starts + q), tl.load(train_classes + q)  # [BQ]
        train_a = _gather(image, start, tl.load(offsets + ka), COUNT >= KA)  # [BQ, KA]
        norms = _norms(train_a)  # [BQ]
        if KB > 0:
            kb = KA + tl.arange(0, KB)  # [KB]
            train_b = _gather(image, start, tl.load(offsets + kb), COUNT >= KA + KB)  # [BQ, KB]
            norms += _norms(train_b)  # [BQ]
        norms = tl.where(start >= 0, norms, FAR)  # [BQ]
        least, most = tl.load(first + t), tl.load(last + t)
        for view in range(views):
            unit = tl.load(units + view)
            if NEAREST:  # noqa: SIM108
                target = out + view * slots
            else:
                target = out + (part.to(tl.int64) * views + view) * out_step + n * slots
            for tile in range(least, most):
                place = tile * BP + tl.arange(0, BP)  # [BP]
                p = view * slots + place  # [BP]
                at = p[:, None].to(tl.int64) * (KA + KB)  # [BP, 1]
                product = tl.dot(tl.load(query + at + ka[None, :]), tl.trans(train_a))  # [BP, BQ]
                if KB > 0:
                    product = tl.dot(tl.load(query + at + kb[None, :]), tl.trans(train_b), product)  # [BP, BQ]
                if LOW:
                    product = tl.dot(tl.load(low + at + ka[None, :]), tl.trans(train_a), product)  # [BP, BQ]
                    if KB > 0:
                        product = tl.dot(tl.load(low + at + kb[None, :]), tl.trans(train_b), product)  # [BP, BQ]
                _store(
                    product, norms, norm_step, unit, tl.load(reference + p), query_classes + place, train_class,
                    target + place, MASKED, NEAREST,
                )  # fmt: skip


@triton.jit(do_not_specialize=[*SIZES, "coordinates"])
def sweep_pieces(
    images, image_step, starts, train_classes, offsets, query, low, query_classes, units, reference,
    first, last, out, out_step, views, slots, tile_begin, tile_end, tiles_each, norm_step, coordinates,
    KC: tl.constexpr, BP: tl.constexpr, BQ: tl.constexpr,
    LOW: tl.constexpr, MASKED: tl.constexpr, NEAREST: tl.constexpr,
):  # fmt: skip
    """Do what `sweep` does where a tile of whole windows is too large to keep: KC of `coordinates` at a time."""
    n, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    image = images + n * image_step
    begin = tile_begin + part * tiles_each
    for t in range(begin, tl.minimum(begin + tiles_each, tile_end)):
        q = t * BQ + tl.arange(0, BQ)  # [BQ]
        start, train_class = tl.load(starts + q), tl.load(train_classes + q)  # [BQ]
        least, most = tl.load(first + t), tl.load(last + t)
        for view in range(views):
            unit = tl.load(units + view)
            if NEAREST:  # noqa: SIM108
                target = out + view * slots
            else:
                target = out + (part.to(tl.int64) * views + view) * out_step + n * slots
            for tile in range(least, most):
                place = tile * BP + tl.arange(0, BP)  # [BP]
                p = view * slots + place  # [BP]
                at = p[:, None].to(tl.int64) * coordinates  # [BP, 1]
                product = tl.zeros((BP, BQ), tl.float32)  # [BP, BQ]
                norms = tl.zeros((BQ,), tl.float32)  # [BQ]
                for k in range(0, coordinates, KC):
                    kc = k + tl.arange(0, KC)  # [KC]
                    train = _gather(image, start, tl.load(offsets + kc), False)  # [BQ, KC]
                    norms += _norms(train)  # [BQ]
                    product = tl.dot(tl.load(query + at + kc[None, :]), tl.trans(train), product)  # [BP, BQ]
                    if LOW:
                        product = tl.dot(tl.load(low + at + kc[None, :]), tl.trans(train), product)  # [BP, BQ]
                norms = tl.where(start >= 0, norms, FAR)  # [BQ]
                _store(
                    product, norms, norm_step, unit, tl.load(reference + p), query_classes + place, train_class,
                    target + place, MASKED, NEAREST,
                )  # fmt: skip


@triton.jit(do_not_specialize=["slots"])
def choose_references(ordered, units, possible, reference, slots, room, unmatched, BLOCK: tl.constexpr):
    """Turn the nearest distances of `sweep` into bits of weight 1: whole ones, `room` less than a nearest match has.

    ordered int32 [V, slots]; units float [V]; possible int32 [slots], 0 where nothing matches; reference float
    [V, slots] is written. Whole bits: a weight differs in its exponent alone by what it is relative to.
    """
    view = tl.program_id(0)
    s = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    valid = s < slots
    bits = tl.load(ordered + view * slots + s, mask=valid, other=0)  # [BLOCK]
    nearest = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)  # [BLOCK]
    matched = (tl.load(possible + s, mask=valid, other=0) > 0) & (nearest < unmatched)
    good = tl.floor(tl.where(matched, nearest, 0.0) * tl.load(units + view)) - room  # [BLOCK]
    tl.store(reference + view * slots + s, tl.where(matched, good, 0.0), mask=valid)


@triton.jit(do_not_specialize=["count", "slots"])
def sum_shares(masses, shares, out, count, slots, IMAGES: tl.constexpr, BLOCK: tl.constexpr):
    """Multiply masses float [count, slots] by shares float64 [slots]: float64 [count]."""
    n = tl.program_id(0).to(tl.int64) * IMAGES + tl.arange(0, IMAGES)  # [IMAGES]
    total = tl.zeros((IMAGES, BLOCK), tl.float64)  # [IMAGES, BLOCK]
    for begin in range(0, slots, BLOCK):
        s = begin + tl.arange(0, BLOCK)  # [BLOCK]
        valid = (n < count)[:, None] & (s < slots)[None, :]  # [IMAGES, BLOCK]
        mass = tl.load(masses + n[:, None] * slots + s[None, :], mask=valid, other=0.0)  # [IMAGES, BLOCK]
        share = tl.load(shares + s, mask=s < slots, other=0.0)  # [BLOCK]
        total += mass.to(tl.float64) * share[None, :]  # [IMAGES, BLOCK]
    tl.store(out + n, tl.sum(total, axis=1), mask=n < count)


@triton.jit(do_not_specialize=["height", "width", "rows", "columns", "padding"])
def sum_bytes(images, out, height, width, rows, columns, padding, middle, R: tl.constexpr, BLOCK: tl.constexpr):
    """Sum R x R blocks of padded planes less `middle`, uint8 [planes, height, width]: fp16 [planes, rows, columns]."""
    plane = tl.program_id(0).to(tl.int64)
    for begin in range(0, rows * columns, BLOCK):
        at = begin + tl.arange(0, BLOCK)  # [BLOCK]
        y, x = at // columns - padding, at % columns - padding  # [BLOCK]
        total = tl.zeros((BLOCK,), tl.float32)  # [BLOCK]
        for i in tl.static_range(R):
            for j in tl.static_range(R):
                inside = (y + i >= 0) & (y + i < height) & (x + j >= 0) & (x + j < width)  # [BLOCK]
                place = images + plane * (height * width) + (y + i) * width + x + j  # [BLOCK]
                byte = tl.load(place, mask=inside, other=0).to(tl.float32)  # [BLOCK]
                total += tl.where(inside, byte - middle, 0.0)  # [BLOCK]
        tl.store(out + plane * (rows * columns) + at, total.to(tl.float16), mask=at < rows * columns)
