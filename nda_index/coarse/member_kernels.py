"""The Numba loops over the members of the cells that a query's windows visit.

Buffers are flat; an index counts vectors and `* LANES` makes it one of floats. Logarithms are to base 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.cell_kernels import NOTHING, compile_loop
from nda_index.exact.simd import LANES, any_below, exp2, fma, larger, load, smaller, splat, store, transpose

FAINT = -32.0  # members whose share of a window is below 2^FAINT are left out
CEILING = 16.0  # no member counts more than 2^CEILING: a share is at most its window's weight, more is a damaged file


class Lists(NamedTuple):
    """One segment's members, how their codes are read, and which of them take part.

    Attributes:
        codes: uint8 [T, bytes of a member].
        image_ids: int32 [T].
        offsets: int64 [C + 1], where each cell's members start.
        centroids: float32 [C, d].
        codebook: float32 [2, d] or [256, d], as in `Cells`.
        alike: what the last coordinate before the overhang, the norm of the rest, is multiplied with.
        allowed: bool [N], whose members take part; empty: all.
        images: number of images N.
    """

    codes: NDArray[np.uint8]
    image_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    centroids: NDArray[np.float32]
    codebook: NDArray[np.float32]
    alike: np.float32
    allowed: NDArray[np.bool_]
    images: int


class Visits(NamedTuple):
    """Which windows visit which cells: cells[a] is visited by windows[starts[a] : starts[a + 1]].

    Attributes:
        cells: int64 [A].
        starts: int64 [A + 1].
        windows: int64 [V], for each cell by ascending query.
    """

    cells: NDArray[np.int64]
    starts: NDArray[np.int64]
    windows: NDArray[np.int64]


class Windows(NamedTuple):
    """The windows of one or several queries: a logit is constant + <row, vector>, the row as `_load_members` makes it.

    Attributes:
        vectors: float32 [W, d + 2].
        constants: float32 [W].
        queries: int64 [W], the number of each window's query.
    """

    vectors: NDArray[np.float32]
    constants: NDArray[np.float32]
    queries: NDArray[np.int64]


class _Room(NamedTuple):
    """What `_load_members` works in, `members` and `columns`, and what it fills, `rows`."""

    members: NDArray[np.float32]
    columns: NDArray[np.float32]
    rows: NDArray[np.float32]


@compile_loop(in_order=True)
def _load_members(lists: Lists, cell: int, first: int, room: _Room) -> bool:
    """Load up to sixteen members of a cell, from `first` on, into the lanes of `room.rows`; say whether any takes part.

    The rows [d + 3] hold the d coordinates, two squared norms (without the last two coordinates, the overhang, and of
    these), and 0, or NOTHING where a lane has no member or one that does not take part.
    """
    codes, image_ids, offsets, centroids, codebook, alike, allowed, images = lists
    members, columns, rows = room
    centroid, last = centroids[cell], offsets[cell + 1]
    dimensions, stride = codebook.shape[1], len(members) // LANES
    overhang = dimensions - 2
    by_coordinate = codebook.shape[0] == 2  # offset and step of each; else a byte stands for `width` of them
    width = 1 if by_coordinate else dimensions // codes.shape[1]
    any_there = False
    for lane in range(LANES):
        # A damaged file may name an image that is not there.
        image = image_ids[min(first + lane, last - 1)]
        there = first + lane < last and 0 <= image < images and (len(allowed) == 0 or allowed[image])
        rows[(dimensions + 2) * LANES + lane] = 0.0 if there else NOTHING
        any_there = any_there or there
    if not any_there:
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


@compile_loop(in_order=True)
def _make_room(size: int) -> _Room:
    """Make room for rows of `size` and one more."""
    stride = (size + LANES - 1) // LANES * LANES
    members, columns = np.zeros(stride * LANES, np.float32), np.empty(stride * LANES, np.float32)
    return _Room(members, columns, np.empty((size + 1) * LANES, np.float32))


@compile_loop(in_order=True)
def _compute_logits(rows: NDArray[np.float32], windows: Windows, one: int, other: int) -> Any:
    """Compute the logits of sixteen members for two windows: together they load the members once."""
    vectors, constants, _ = windows
    size = vectors.shape[1]
    bias = load(rows, size * LANES)
    first, second = bias + splat(constants[one]), bias + splat(constants[other])
    for i in range(size):
        row = load(rows, i * LANES)
        first, second = fma(splat(vectors[one, i]), row, first), fma(splat(vectors[other, i]), row, second)
    return first, second


@compile_loop(in_order=True)
def _add_weights(logit: Any, place: int, tops: NDArray[np.float32], sums: NDArray[np.float32]) -> None:
    """Add 2^logit to sums that are relative to the highest logit so far, in each lane."""
    top = load(tops, place)
    if any_below(top, logit):
        higher = larger(top, logit)
        store(sums, place, load(sums, place) * exp2(top - higher) + exp2(logit - higher))
        store(tops, place, higher)
    elif any_below(top + splat(np.float32(FAINT)), logit):
        store(sums, place, load(sums, place) + exp2(logit - top))


@compile_loop(in_order=True, parallel=True)
def sum_visits(
    lists: Lists,
    visits: Visits,
    windows: Windows,
    parts: int,
    highest: NDArray[np.float32],
    total: NDArray[np.float32],
) -> None:
    """Find the highest logit of a cell's members for each visit, and sum their weights relative to it.

    highest and total [V] go on from what they hold. The cells are shared out to `parts` threads.
    """
    for part in numba.prange(parts):
        room = _make_room(windows.vectors.shape[1])
        for a in range(part, len(visits.cells), parts):
            c, first, last = visits.cells[a], visits.starts[a], visits.starts[a + 1]
            tops = np.full((last - first) * LANES, np.float32(NOTHING))
            sums = np.zeros((last - first) * LANES, np.float32)
            for at in range(lists.offsets[c], lists.offsets[c + 1], LANES):
                if not _load_members(lists, c, at, room):
                    continue
                for visit in range(0, last - first, 2):
                    other = min(visit + 1, last - first - 1)
                    pair = visits.windows[first + visit], visits.windows[first + other]
                    logits = _compute_logits(room.rows, windows, pair[0], pair[1])
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


@compile_loop(in_order=True, parallel=True)
def add_votes(
    lists: Lists, visits: Visits, windows: Windows, even: NDArray[np.float32], votes: NDArray[np.float32]
) -> None:
    """Add to votes [parts, N, Q] the members' weights, summed over each query's windows in their cell, and even[c].

    The windows' constants hold their normalisers; even [C, Q]. A cell may have no visitors.
    """
    parts, several = votes.shape[0], votes.shape[2]
    for part in numba.prange(parts):
        room = _make_room(windows.vectors.shape[1])
        biases, lanes = room.rows[windows.vectors.shape[1] * LANES :], np.empty(LANES, np.float32)
        for a in range(part, len(visits.cells), parts):
            c, first, last = visits.cells[a], visits.starts[a], visits.starts[a + 1]
            end = lists.offsets[c + 1]
            for at in range(lists.offsets[c], end):
                image = lists.image_ids[at]
                if 0 <= image < lists.images and (len(lists.allowed) == 0 or lists.allowed[image]):
                    for query in range(several):
                        votes[part, image, query] += even[c, query]
            if first == last:
                continue
            for at in range(lists.offsets[c], end, LANES):
                if not _load_members(lists, c, at, room):
                    continue
                summed, any_counts = splat(np.float32(0)), False
                for pair in range(first, last, 2):
                    other = min(pair + 1, last - 1)
                    logits = _compute_logits(room.rows, windows, visits.windows[pair], visits.windows[other])
                    for visit in range(pair, other + 1):
                        logit = logits[0] if visit == pair else logits[1]
                        if any_below(splat(np.float32(FAINT)), logit):
                            summed, any_counts = summed + exp2(smaller(logit, splat(np.float32(CEILING)))), True
                        query = windows.queries[visits.windows[visit]]
                        ends = visit + 1 == last or windows.queries[visits.windows[visit + 1]] != query
                        if any_counts and ends:
                            store(lanes, 0, summed)
                            for lane in range(min(LANES, end - at)):
                                if biases[lane] == 0.0:
                                    votes[part, lists.image_ids[at + lane], query] += lanes[lane]
                            summed, any_counts = splat(np.float32(0)), False
