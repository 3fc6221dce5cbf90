"""The Numba loops of the coarse stage: query windows against cells, and against the members of the cells they visit.

Buffers are flat; an index counts vectors and `* LANES` makes it one of floats. Logarithms are to base 2.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from nda_index.exact.vectors import LANES, any_below, exp2, fma, larger, load, smaller, splat, store

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


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _load_tiles(windows: Any, first: int, last: int, vectors: Any, constants: Any, tiles: Any) -> int:
    """Windows first .. last - 1 into tiles of sixteen lanes: their vectors, and a constant."""
    dimensions = vectors.shape[1]
    count = (last - first + LANES - 1) // LANES
    for k in range(count):
        at = k * (dimensions + 1) * LANES
        for lane in range(LANES):
            slot = first + k * LANES + lane
            for i in range(dimensions):
                tiles[at + i * LANES + lane] = vectors[windows[slot], i] if slot < last else np.float32(0)
            tiles[at + dimensions * LANES + lane] = constants[windows[slot]] if slot < last else NOTHING
    return count


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _decode(codes: Any, at: int, centroid: Any, codebook: Any, alike: Any, row: Any) -> None:
    """A member's d coordinates into `row`, and two squared norms: without the last two, the overhang, and of these."""
    dimensions = codebook.shape[1]
    overhang = dimensions - 2
    norm, outside = np.float32(0), np.float32(0)
    if codebook.shape[0] == 2:  # bytes of single coordinates: offset and step
        for i in range(dimensions):
            row[i] = centroid[i] + codebook[0, i] + codebook[1, i] * np.float32(codes[at, i])
    else:  # product quantisation: [256, d], coordinate i is in the part i // width
        width = dimensions // codes.shape[1]
        for i in range(dimensions):
            row[i] = centroid[i] + codebook[codes[at, i // width], i]
    for i in range(overhang):
        norm += row[i] * row[i]
    for i in range(overhang, dimensions):
        outside += row[i] * row[i]
    row[overhang - 1] *= alike
    row[dimensions], row[dimensions + 1] = norm, outside


@numba.njit(**_IN_ORDER)  # type: ignore[untyped-decorator]
def _logits(tiles: Any, k: int, row: Any) -> Any:
    """Of one member and sixteen windows."""
    dimensions = len(row)
    at = k * (dimensions + 1) * LANES
    logit = load(tiles, at + dimensions * LANES)
    for i in range(dimensions):
        logit = fma(splat(row[i]), load(tiles, at + i * LANES), logit)
    return logit


@numba.njit(parallel=True, **_IN_ORDER)  # type: ignore[untyped-decorator]
def sum_visits(
    codes: Any, image_ids: Any, offsets: Any, allowed: Any, centroids: Any, codebook: Any, alike: Any, cells: Any,
    starts: Any, windows: Any, vectors: Any, constants: Any, parts: int, highest: Any, total: Any,
) -> None:  # fmt: skip
    """Of each visit, the highest logit of the cell's members and the sum of their weights relative to it.

    Cell cells[a] is visited by windows[starts[a]] .. windows[starts[a + 1] - 1]; highest and total have an entry for
    each, which is gone on from. A logit is constant + <row, vector>, the row as `_decode` makes it of a member, vectors
    [W, d + 2]. allowed [N] may be empty: all.
    """
    dimensions = vectors.shape[1]
    for part in numba.prange(parts):
        row = np.empty(dimensions, np.float32)
        for a in range(part, len(cells), parts):
            c, first, last = cells[a], starts[a], starts[a + 1]
            room = last - first + LANES
            tiles = np.empty(room * (dimensions + 1), np.float32)
            tops, sums = np.full(room, np.float32(NOTHING)), np.zeros(room, np.float32)
            tops[: last - first], sums[: last - first] = highest[first:last], total[first:last]
            count = _load_tiles(windows, first, last, vectors, constants, tiles)
            for at in range(offsets[c], offsets[c + 1]):
                image = image_ids[at]
                if len(allowed) and (image < 0 or image >= len(allowed) or not allowed[image]):
                    continue  # a damaged file may name an image that is not there
                _decode(codes, at, centroids[c], codebook, alike, row)
                for k in range(count):
                    logit, top = _logits(tiles, k, row), load(tops, k * LANES)
                    if any_below(top, logit):
                        higher = larger(top, logit)
                        store(sums, k * LANES, load(sums, k * LANES) * exp2(top - higher) + exp2(logit - higher))
                        store(tops, k * LANES, higher)
                    elif any_below(top + splat(np.float32(FAINT)), logit):
                        store(sums, k * LANES, load(sums, k * LANES) + exp2(logit - top))
            highest[first:last], total[first:last] = tops[: last - first], sums[: last - first]


@numba.njit(parallel=True, **_IN_ORDER)  # type: ignore[untyped-decorator]
def add_votes(
    codes: Any, image_ids: Any, offsets: Any, allowed: Any, centroids: Any, codebook: Any, alike: Any, cells: Any,
    starts: Any, windows: Any, vectors: Any, constants: Any, queries: Any, even: Any, votes: Any,
) -> None:  # fmt: skip
    """Add to votes [parts, N, Q] the members' weights, summed over each query's windows in their cell, and even[c].

    As `sum_visits`, with constants that hold the windows' normalisers. Window w is of query queries[w]; even [C, Q]. A
    cell may have no visitors.
    """
    dimensions, parts, several = vectors.shape[1], votes.shape[0], votes.shape[2]
    for part in numba.prange(parts):
        row, lanes = np.empty(dimensions, np.float32), np.empty(LANES, np.float32)
        for a in range(part, len(cells), parts):
            c, first, last = cells[a], starts[a], starts[a + 1]
            tiles = np.empty((last - first + LANES) * (dimensions + 1), np.float32)
            count = _load_tiles(windows, first, last, vectors, constants, tiles)
            for at in range(offsets[c], offsets[c + 1]):
                image = image_ids[at]
                if image < 0 or image >= votes.shape[1] or (len(allowed) and not allowed[image]):
                    continue
                for q in range(several):
                    votes[part, image, q] += even[c, q]
                if count == 0:
                    continue
                _decode(codes, at, centroids[c], codebook, alike, row)
                summed = splat(np.float32(0))
                for k in range(count):
                    logit = _logits(tiles, k, row)
                    if not any_below(splat(np.float32(FAINT)), logit):
                        continue
                    weights = exp2(smaller(logit, splat(np.float32(16))))
                    if several == 1:
                        summed = summed + weights
                    else:
                        store(lanes, 0, weights)
                        at_tile = first + k * LANES
                        query, total = queries[windows[at_tile]], np.float32(0)
                        for slot in range(at_tile, min(last, at_tile + LANES)):
                            if queries[windows[slot]] != query:
                                votes[part, image, query] += total
                                query, total = queries[windows[slot]], np.float32(0)
                            total += lanes[slot - at_tile]
                        votes[part, image, query] += total
                if several == 1:
                    store(lanes, 0, summed)
                    for lane in range(LANES):
                        votes[part, image, 0] += lanes[lane]
