"""The Numba loops of the coarse stage: query windows against cells, and against the members of the cells they visit.

Buffers are flat; an index counts vectors and `* LANES` makes it one of floats. Logarithms are to base 2.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from nda_index.exact.simd import LANES, any_below, exp2, fma, larger, load, smaller, splat, store, transpose

NOTHING = -1e30  # the logarithm of no mass
BLOCK = 256  # cells whose sums a thread carries through the windows, row by row
FAINT = -32.0  # members whose share of a window is below 2^FAINT are left out
NEGLIGIBLE = -40.0  # flat cells whose share of a window is below 2^NEGLIGIBLE are left out

_OPTIONS: dict[str, Any] = {"fastmath": True, "nogil": True, "cache": True, "error_model": "numpy"}
# `exp2` rounds by adding and taking away a large number, which sums in any order would undo.
_IN_ORDER: dict[str, Any] = _OPTIONS | {"fastmath": {"nnan", "nsz", "contract", "arcp"}}


@numba.njit(parallel=True, **_OPTIONS)  # type: ignore[untyped-decorator]
def cell_masses(
    vectors: Any, groups: Any, variances: Any, means: Any, spreads: Any, counts: Any, extra: Any, flat: Any,
    masses: Any, is_flat: Any,
) -> None:  # fmt: skip
    """Logarithm of the mass that each cell can hold for each window, and whether it is flat there.

    vectors [W, d], windows groups[g] .. groups[g + 1] - 1 share variances[g]; means and spreads (variances of the
    members) [C, d]; counts [C]; extra [C] is added to every squared distance; masses and is_flat [W, C].
    A member's logit has mean -(D + spread) / 2s^2 and a standard deviation `deviation`. While the latter is below
    sqrt(2 ln n), n members sum to what a Gaussian integral gives; above it the largest of n terms is all there is (the
    freezing of the random energy model, Derrida 1981).
    """
    cells, dimensions = means.shape
    for block in numba.prange((cells + LANES - 1) // LANES):
        first, last = block * LANES, min(cells, (block + 1) * LANES)
        rows, lanes = np.zeros((3, dimensions * LANES), np.float32), np.zeros((8, LANES), np.float32)
        mean, spread, narrow = rows[0], rows[1], rows[2]
        full, plain, rough, constant, limit, size = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], lanes[5]
        trace, traces = lanes[6], lanes[7]
        for c in range(first, last):
            for i in range(dimensions):
                mean[i * LANES + c - first] = means[c, i]
                spread[i * LANES + c - first] = spreads[c, i]
                trace[c - first] += spreads[c, i]
                traces[c - first] += spreads[c, i] * spreads[c, i]
            size[c - first] = np.log(max(counts[c], 1))
            limit[c - first] = np.sqrt(2 * np.log(max(counts[c], 2)))
        for g in range(len(variances)):
            s2 = variances[g]
            for c in range(first, last):
                determinant = 1.0
                for i in range(dimensions):
                    narrow[i * LANES + c - first] = 1 / (s2 + spreads[c, i])
                    determinant *= 1.0 + np.float64(spreads[c, i]) / s2
                constant[c - first] = np.log(np.float64(max(counts[c], 1e-9))) - 0.5 * np.log(determinant)
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
                    held = min(smooth, frozen) if deviation > limit[lane] else smooth
                    masses[p, c] = min(held, size[lane]) * np.float32(1.4426950408889634) if counts[c] else NOTHING
                    is_flat[p, c] = deviation < flat


@numba.njit(parallel=True, **_OPTIONS)  # type: ignore[untyped-decorator]
def choose_cells(masses: Any, is_flat: Any, far: Any, target: Any, chosen: Any, flat_total: Any) -> None:
    """For each window the cells to visit, best first, until what is left of its mass is below `target`; -1 ends them.

    Flat cells are not visited; flat_total [W] is the logarithm of their sum. Cells of less than 2^-far of the best
    one's mass are not looked at. chosen [W, probes].
    """
    for p in numba.prange(masses.shape[0]):
        best = NOTHING
        for c in range(masses.shape[1]):
            best = max(best, masses[p, c])
        even, sharp, found = 0.0, 0.0, 0
        near = np.empty(masses.shape[1], np.int64)
        for c in range(masses.shape[1]):
            if masses[p, c] > best - far:
                held = 2.0 ** (masses[p, c] - best)
                if is_flat[p, c]:
                    even += held
                else:
                    sharp += held
                    near[found] = c
                    found += 1
        flat_total[p] = best + np.log2(even) if even > 0 else NOTHING
        chosen[p] = -1
        left = sharp
        for i in range(min(found, chosen.shape[1])):
            if left <= target * (even + sharp):
                break
            top = i
            for j in range(i + 1, found):
                if masses[p, near[j]] > masses[p, near[top]]:
                    top = j
            near[i], near[top] = near[top], near[i]
            chosen[p, i] = near[i]
            left -= 2.0 ** (masses[p, near[i]] - best)


@numba.njit(parallel=True, **_OPTIONS)  # type: ignore[untyped-decorator]
def flat_weights(masses: Any, is_flat: Any, log_weights: Any, counts: Any, out: Any) -> None:
    """out[c]: the weight of one member of cell c, of all windows for which the cell is flat.

    log_weights [W]: a window's weight over its normaliser.
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


@numba.njit(**_IN_ORDER)  # type: ignore[untyped-decorator]
def _load_members(
    codes: Any, image_ids: Any, first: int, last: int, allowed: Any, images: int, centroid: Any, codebook: Any,
    alike: Any, members: Any, columns: Any, rows: Any,
) -> bool:  # fmt: skip
    """Up to sixteen members from `first` on into the lanes of `rows`, and whether any of them takes part.

    rows [d + 3] holds the d coordinates, two squared norms (without the last two coordinates, the overhang, and of
    these), and 0, or NOTHING where a lane has no member or one that does not take part. members and columns are room to
    work in.
    """
    dimensions, stride = codebook.shape[1], len(members) // LANES
    overhang = dimensions - 2
    by_coordinate = codebook.shape[0] == 2  # offset and step of each; else a byte stands for `width` of them
    width = 1 if by_coordinate else dimensions // codes.shape[1]
    taking_part = False
    for lane in range(LANES):
        # A damaged file may name an image that is not there.
        image = image_ids[min(first + lane, last - 1)]
        there = first + lane < last and 0 <= image < images and (len(allowed) == 0 or allowed[image])
        rows[(dimensions + 2) * LANES + lane] = 0.0 if there else NOTHING
        taking_part = taking_part or there
    if not taking_part:
        return False
    for lane in range(LANES):
        at, start = min(first + lane, last - 1), lane * stride
        if by_coordinate:
            for i in range(dimensions):
                members[start + i] = np.float32(codes[at, i])
        elif width == 2:
            for part in range(codes.shape[1]):
                code = codes[at, part]
                one, other = codebook[code, 2 * part], codebook[code, 2 * part + 1]
                members[start + 2 * part] = one
                members[start + 2 * part + 1] = other
        else:
            for part in range(codes.shape[1]):
                for i in range(part * width, (part + 1) * width):
                    members[start + i] = codebook[codes[at, part], i]
    transpose(members, stride, columns)
    inner, outside = splat(np.float32(0)), splat(np.float32(0))
    for i in range(dimensions):
        value = load(columns, i * LANES)
        if by_coordinate:
            value = fma(value, splat(codebook[1, i]), splat(centroid[i] + codebook[0, i]))
        else:
            value = value + splat(centroid[i])
        if i < overhang:
            inner = fma(value, value, inner)
        else:
            outside = fma(value, value, outside)
        store(rows, i * LANES, value * splat(alike) if i == overhang - 1 else value)
    store(rows, dimensions * LANES, inner)
    store(rows, (dimensions + 1) * LANES, outside)
    return True


@numba.njit(**_IN_ORDER)  # type: ignore[untyped-decorator]
def _room(size: int) -> Any:
    """What `_load_members` works in and fills, for rows of `size` and one more."""
    stride = (size + LANES - 1) // LANES * LANES
    members, columns = np.zeros(stride * LANES, np.float32), np.empty(stride * LANES, np.float32)
    return members, columns, np.empty((size + 1) * LANES, np.float32)


@numba.njit(**_IN_ORDER)  # type: ignore[untyped-decorator]
def _logits(rows: Any, vectors: Any, constants: Any, one: int, other: int) -> Any:
    """Of sixteen members and two windows: together they load the members once."""
    size = vectors.shape[1]
    bias = load(rows, size * LANES)
    first, second = bias + splat(constants[one]), bias + splat(constants[other])
    for i in range(size):
        row = load(rows, i * LANES)
        first, second = fma(splat(vectors[one, i]), row, first), fma(splat(vectors[other, i]), row, second)
    return first, second


@numba.njit(**_IN_ORDER)  # type: ignore[untyped-decorator]
def _add_weights(logit: Any, place: int, tops: Any, sums: Any) -> None:
    """Add 2^logit to sums that are relative to the highest logit so far, in each lane."""
    top = load(tops, place)
    if any_below(top, logit):
        higher = larger(top, logit)
        store(sums, place, load(sums, place) * exp2(top - higher) + exp2(logit - higher))
        store(tops, place, higher)
    elif any_below(top + splat(np.float32(FAINT)), logit):
        store(sums, place, load(sums, place) + exp2(logit - top))


@numba.njit(parallel=True, **_IN_ORDER)  # type: ignore[untyped-decorator]
def sum_visits(
    codes: Any, image_ids: Any, offsets: Any, allowed: Any, images: int, centroids: Any, codebook: Any, alike: Any,
    cells: Any, starts: Any, windows: Any, vectors: Any, constants: Any, parts: int, highest: Any, total: Any,
) -> None:  # fmt: skip
    """Of each visit, the highest logit of the cell's members and the sum of their weights relative to it.

    Cell cells[a] is visited by windows[starts[a]] .. windows[starts[a + 1] - 1]; highest and total have an entry for
    each, which is gone on from. A logit is constant + <row, vector>, the row as `_load_members` makes it of a member,
    vectors [W, d + 2]. allowed [N] may be empty: all.
    """
    for part in numba.prange(parts):
        members, columns, rows = _room(vectors.shape[1])
        for a in range(part, len(cells), parts):
            c, first, last = cells[a], starts[a], starts[a + 1]
            tops = np.full((last - first) * LANES, np.float32(NOTHING))
            sums = np.zeros((last - first) * LANES, np.float32)
            end = offsets[c + 1]
            for at in range(offsets[c], end, LANES):
                if not _load_members(
                    codes, image_ids, at, end, allowed, images, centroids[c], codebook, alike, members, columns, rows
                ):  # fmt: skip
                    continue
                for visit in range(0, last - first, 2):
                    other = min(visit + 1, last - first - 1)
                    logits = _logits(rows, vectors, constants, windows[first + visit], windows[first + other])
                    _add_weights(logits[0], visit * LANES, tops, sums)
                    if other > visit:
                        _add_weights(logits[1], other * LANES, tops, sums)
            for visit in range(last - first):
                mine, summed = slice(visit * LANES, (visit + 1) * LANES), 0.0
                top = max(highest[first + visit], tops[mine].max())
                for lane in range(LANES):
                    summed += sums[visit * LANES + lane] * 2.0 ** np.float64(tops[visit * LANES + lane] - top)
                total[first + visit] = total[first + visit] * 2.0 ** np.float64(highest[first + visit] - top) + summed
                highest[first + visit] = top


@numba.njit(parallel=True, **_IN_ORDER)  # type: ignore[untyped-decorator]
def add_votes(
    codes: Any, image_ids: Any, offsets: Any, allowed: Any, images: int, centroids: Any, codebook: Any, alike: Any,
    cells: Any, starts: Any, windows: Any, vectors: Any, constants: Any, queries: Any, even: Any, votes: Any,
) -> None:  # fmt: skip
    """Add to votes [parts, N, Q] the members' weights, summed over each query's windows in their cell, and even[c].

    As `sum_visits`, with constants that hold the windows' normalisers. Window w is of query queries[w], and a cell's
    windows are sorted by query; even [C, Q]. A cell may have no visitors.
    """
    parts, several = votes.shape[0], votes.shape[2]
    for part in numba.prange(parts):
        members, columns, rows = _room(vectors.shape[1])
        lanes = np.empty(LANES, np.float32)
        for a in range(part, len(cells), parts):
            c, first, last = cells[a], starts[a], starts[a + 1]
            end = offsets[c + 1]
            for at in range(offsets[c], end):
                image = image_ids[at]
                if 0 <= image < images and (len(allowed) == 0 or allowed[image]):
                    for query in range(several):
                        votes[part, image, query] += even[c, query]
            if first == last:
                continue
            for at in range(offsets[c], end, LANES):
                if not _load_members(
                    codes, image_ids, at, end, allowed, images, centroids[c], codebook, alike, members, columns, rows
                ):  # fmt: skip
                    continue
                summed, found = splat(np.float32(0)), False
                for pair in range(first, last, 2):
                    other = min(pair + 1, last - 1)
                    logits = _logits(rows, vectors, constants, windows[pair], windows[other])
                    for visit in range(pair, other + 1):
                        logit = logits[0] if visit == pair else logits[1]
                        if any_below(splat(np.float32(FAINT)), logit):
                            summed, found = summed + exp2(smaller(logit, splat(np.float32(16)))), True
                        query = queries[windows[visit]]
                        if found and (visit + 1 == last or queries[windows[visit + 1]] != query):
                            store(lanes, 0, summed)
                            for lane in range(min(LANES, end - at)):
                                if rows[vectors.shape[1] * LANES + lane] == 0.0:
                                    votes[part, image_ids[at + lane], query] += lanes[lane]
                            summed, found = splat(np.float32(0)), False
