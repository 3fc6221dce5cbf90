"""The Numba loops over the members of the cells that a query's windows visit.

Buffers are flat; an index counts vectors and `* LANES` makes it one of floats. Logarithms are to base 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.cell_kernels import compile_loop, read_only
from nda_index.coarse.limits import CEILING, FAINT, NOTHING
from nda_index.coarse.visits import Visits, Windows
from nda_index.exact.simd import LANES, any_below, exp2, fma, larger, load, smaller, splat, store, transpose


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


def freeze(lists: Lists) -> Lists:
    """Return the same lists as arrays that cannot be written to, the one kind that the loops are compiled for."""
    return Lists(
        read_only(lists.codes),
        read_only(lists.image_ids),
        read_only(lists.offsets),
        read_only(lists.centroids),
        read_only(lists.codebook),
        lists.alike,
        read_only(lists.allowed),
        lists.images,
    )


class _Room(NamedTuple):
    """What the loops over a cell's members work in.

    Attributes:
        places: int64 [members of the largest cell]; `_find_members` fills it.
        members, columns: what `_load_members` works in.
        rows: what it fills.
    """

    places: NDArray[np.int64]
    members: NDArray[np.float32]
    columns: NDArray[np.float32]
    rows: NDArray[np.float32]


@compile_loop(in_order=True)
def _find_members(lists: Lists, cell: int, room: _Room) -> int:
    """Write the places of those of a cell's members that take part, and return their number."""
    image_ids, offsets, allowed = lists.image_ids, lists.offsets, lists.allowed
    count = 0
    for place in range(offsets[cell], offsets[cell + 1]):
        image = image_ids[place]
        # A damaged file may name an image that is not there.
        if 0 <= image < lists.images and (len(allowed) == 0 or allowed[image]):
            room.places[count] = place
            count += 1
    return count


@compile_loop(in_order=True)
def _load_members(lists: Lists, cell: int, first: int, count: int, room: _Room) -> None:
    """Load up to sixteen members of a cell, of the `count` in `room.places` from `first` on, into lanes of `room.rows`.

    The rows [d + 3] hold the d coordinates, two squared norms (without the last two coordinates, the overhang, and of
    these), and 0, or NOTHING where a lane has no member.
    """
    codes, _, _, centroids, codebook, alike, _, _ = lists
    places, members, columns, rows = room
    centroid = centroids[cell]
    dimensions, stride = codebook.shape[1], len(members) // LANES
    overhang = dimensions - 2
    by_coordinate = codebook.shape[0] == 2  # offset and step of each; else a byte stands for `width` of them
    width = 1 if by_coordinate else dimensions // codes.shape[1]
    for lane in range(LANES):
        rows[(dimensions + 2) * LANES + lane] = 0.0 if first + lane < count else NOTHING
        at, start = places[min(first + lane, count - 1)], lane * stride
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


@compile_loop(in_order=True)
def _make_room(size: int, lists: Lists) -> _Room:
    """Make room for rows of `size` and one more, and for the places of any cell's members."""
    stride, most = (size + LANES - 1) // LANES * LANES, 0
    for cell in range(len(lists.offsets) - 1):
        most = max(most, lists.offsets[cell + 1] - lists.offsets[cell])
    members, columns = np.zeros(stride * LANES, np.float32), np.empty(stride * LANES, np.float32)
    return _Room(np.empty(most, np.int64), members, columns, np.empty((size + 1) * LANES, np.float32))


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
        room = _make_room(windows.vectors.shape[1], lists)
        for a in range(part, len(visits.cells), parts):
            c, first, last = visits.cells[a], visits.starts[a], visits.starts[a + 1]
            count = _find_members(lists, c, room)
            tops = np.full((last - first) * LANES, np.float32(NOTHING))
            sums = np.zeros((last - first) * LANES, np.float32)
            for at in range(0, count, LANES):
                _load_members(lists, c, at, count, room)
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
    """Add to votes [parts, N, R] the members' weights, summed over each row's windows in their cell, and even[c].

    The windows' constants hold their normalisers; even [C, R]. A cell may have no visitors.
    """
    parts, several = votes.shape[0], votes.shape[2]
    for part in numba.prange(parts):
        room, lanes = _make_room(windows.vectors.shape[1], lists), np.empty(LANES, np.float32)
        for a in range(part, len(visits.cells), parts):
            c, first, last = visits.cells[a], visits.starts[a], visits.starts[a + 1]
            count = _find_members(lists, c, room)
            for place in room.places[:count]:
                for row in range(several):
                    votes[part, lists.image_ids[place], row] += even[c, row]
            if first == last:
                continue
            for at in range(0, count, LANES):
                _load_members(lists, c, at, count, room)
                summed, any_counts = splat(np.float32(0)), False
                for pair in range(first, last, 2):
                    other = min(pair + 1, last - 1)
                    logits = _compute_logits(room.rows, windows, visits.windows[pair], visits.windows[other])
                    for visit in range(pair, other + 1):
                        logit = logits[0] if visit == pair else logits[1]
                        if any_below(splat(np.float32(FAINT)), logit):
                            summed, any_counts = summed + exp2(smaller(logit, splat(np.float32(CEILING)))), True
                        row = windows.rows[visits.windows[visit]]
                        ends = visit + 1 == last or windows.rows[visits.windows[visit + 1]] != row
                        if any_counts and ends:
                            store(lanes, 0, summed)
                            for lane in range(min(LANES, count - at)):
                                votes[part, lists.image_ids[room.places[at + lane]], row] += lanes[lane]
                            summed, any_counts = splat(np.float32(0)), False
