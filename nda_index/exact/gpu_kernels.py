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
# The threads of a warp read neighbouring windows, which lie side by side; along coordinates the kernel would spill.
# Of two axes that both look scattered to it, Triton gives a warp the first one until 3.6, and the last one from 3.7 on.
TAKES_LAST_AXIS = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 7)
WINDOWS_LAST = tl.constexpr(TAKES_LAST_AXIS)
# Numbers that a kernel is not compiled anew for.
SIZES = ["image_step", "out_step", "views", "slots", "tile_begin", "tile_end", "tiles_each"]


@triton.jit
def _gather(image, start, offset, FULL: tl.constexpr):
    """Read coordinates of windows from an image: fp16 [coordinates, windows] with WINDOWS_LAST, else transposed.

    A coordinate whose offset is below 0 is 0; FULL says that there is none. An empty slot reads any window.
    """
    first = image + tl.maximum(start, 0)  # [BQ]
    if WINDOWS_LAST:
        at, used = first[None, :] + offset[:, None], (offset >= 0)[:, None]  # [K, BQ], [K, 1]
    else:
        at, used = first[:, None] + offset[None, :], (offset >= 0)[None, :]  # [BQ, K], [1, K]
    if FULL:  # noqa: SIM108  # Triton's `if` on a constant compiles one side alone
        windows = tl.load(at)  # [K, BQ] or [BQ, K]
    else:
        windows = tl.load(at, mask=used, other=0.0)  # [K, BQ] or [BQ, K]
    return windows


@triton.jit
def _norms(windows):
    """Sum the squares of windows from `_gather`: float32 [BQ], exact where they are whole and below 2^24."""
    wide = windows.to(tl.float32)  # [K, BQ] or [BQ, K]
    return tl.sum(wide * wide, axis=0 if WINDOWS_LAST else 1)  # [BQ]


@triton.jit
def _multiply(query, windows, product):
    """Add the products of the query's windows [BP, K] with windows from `_gather` to product [BP, BQ]."""
    if WINDOWS_LAST:  # noqa: SIM108
        columns = windows  # [K, BQ]
    else:
        columns = tl.trans(windows)  # [K, BQ]
    return tl.dot(query, columns, product)  # [BP, BQ]


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
    row = tl.arange(0, BP)[:, None] * (KA + KB)  # [BP, 1]
    in_a = row + ka[None, :]  # [BP, KA]
    if KB > 0:
        kb = KA + tl.arange(0, KB)  # [KB]
        in_b = row + kb[None, :]  # [BP, KB]
    begin = tile_begin + part * tiles_each
    for t in range(begin, tl.minimum(begin + tiles_each, tile_end)):
        q = t * BQ + tl.arange(0, BQ)  # [BQ]
        start, train_class = tl.load(starts + q), tl.load(train_classes + q)  # [BQ]
        train_a = _gather(image, start, tl.load(offsets + ka), COUNT >= KA)  # [KA, BQ] or [BQ, KA]
        norms = _norms(train_a)  # [BQ]
        if KB > 0:
            train_b = _gather(image, start, tl.load(offsets + kb), COUNT >= KA + KB)  # [KB, BQ] or [BQ, KB]
            norms += _norms(train_b)  # [BQ]
        norms = tl.where(start >= 0, norms, FAR)  # [BQ]
        least, most = tl.load(first + t), tl.load(last + t)
        for view in range(views):
            unit = tl.load(units + view)
            if NEAREST:  # noqa: SIM108
                target = out + view * slots
            else:
                target = out + (part.to(tl.int64) * views + view) * out_step + n * slots
            at = (view * slots + least * BP).to(tl.int64) * (KA + KB)
            query_a = tl.load(query + at + in_a)  # [BP, KA]
            for tile in range(least, most):
                place = tile * BP + tl.arange(0, BP)  # [BP]
                product = tl.zeros((BP, BQ), tl.float32)  # [BP, BQ]
                product = _multiply(query_a, train_a, product)  # [BP, BQ]
                if LOW:
                    product = _multiply(tl.load(low + at + in_a), train_a, product)  # [BP, BQ]
                if KB > 0:
                    product = _multiply(tl.load(query + at + in_b), train_b, product)  # [BP, BQ]
                    if LOW:
                        product = _multiply(tl.load(low + at + in_b), train_b, product)  # [BP, BQ]
                # The next tile is on its way while this one's weights are computed; after the last, the last again.
                at += tl.where(tile + 1 < most, BP * (KA + KB), 0)
                query_a = tl.load(query + at + in_a)  # [BP, KA]
                _store(
                    product, norms, norm_step, unit, tl.load(reference + view * slots + place), query_classes + place,
                    train_class, target + place, MASKED, NEAREST,
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
                    train = _gather(image, start, tl.load(offsets + kc), False)  # [KC, BQ] or [BQ, KC]
                    norms += _norms(train)  # [BQ]
                    product = _multiply(tl.load(query + at + kc[None, :]), train, product)  # [BP, BQ]
                    if LOW:
                        product = _multiply(tl.load(low + at + kc[None, :]), train, product)  # [BP, BQ]
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
