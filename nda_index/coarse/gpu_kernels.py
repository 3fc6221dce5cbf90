"""The Triton kernels over the members of visited cells. Imported where they run: Triton is optional.

A program has a piece of a cell's members and a tile of the windows that visit the cell. It decodes members, multiplies
them with the windows, and takes exponentials and sums at once: nothing of size members x windows leaves the registers.

Members are what their codes add to the cell's centroid; what the centroid itself weighs is in the windows' vectors and
constants (`gpu_launch`), so that products are small numbers, and lose less in float32 than those of whole members.

Sums do not depend on the order in which programs run: those of a visit are stored for each piece, and votes are whole
numbers, which add up exactly.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nda_index.coarse import limits
from nda_index.exact.gpu_kernels import TAKES_LAST_AXIS

FIELDS = tl.constexpr(
    6
)  # of a piece of work: first visit, visits, row, first member, end of the members, place of sums
NOTHING = tl.constexpr(limits.NOTHING)
SOMETHING = tl.constexpr(limits.NOTHING / 2)  # what takes no part is below it, and what is no number not above
FAINT = tl.constexpr(limits.FAINT)
CEILING = tl.constexpr(limits.CEILING)
LARGEST_SHARE = tl.constexpr(2.0**limits.CEILING)
VOTE = tl.constexpr(2.0**36)  # the whole number that stands for a vote
# The threads of a warp must read neighbouring coordinates, which lie side by side.
MEMBERS_FIRST = tl.constexpr(TAKES_LAST_AXIS)


@triton.jit
def _find_images(image_ids, allowed, place, end, image_count, MASKED: tl.constexpr):
    """Return the images of members, int32 [BM], and which take part: a damaged file may name one that is not there."""
    image = tl.load(image_ids + place, mask=place < end, other=-1)  # [BM]
    takes_part = (image >= 0) & (image < image_count)  # [BM]
    if MASKED:
        takes_part &= tl.load(allowed + image, mask=takes_part, other=0) != 0
    return image, takes_part


@triton.jit
def _spread(of_members, of_coordinates):
    """Give values of members [BM] and of coordinates [K] their axes: members first with MEMBERS_FIRST, else last."""
    if MEMBERS_FIRST:
        spread = of_members[:, None], of_coordinates[None, :]  # [BM, 1], [1, K]
    else:
        spread = of_members[None, :], of_coordinates[:, None]  # [1, BM], [K, 1]
    return spread


@triton.jit
def _load_members(
    codes, codebook, place, end, D: tl.constexpr, K: tl.constexpr, BYTES: tl.constexpr, BY_COORDINATE: tl.constexpr
):
    """Decode what members add to their centroid, float [BM, K] with MEMBERS_FIRST, else [K, BM]."""
    k = tl.arange(0, K)  # [K]
    member, coordinate = _spread(place.to(tl.int64), k)
    used = (member < end) & (coordinate < D)  # [BM, K] or [K, BM], as all below; beyond D is 0
    code = tl.load(codes + member * BYTES + coordinate // (D // BYTES), mask=used, other=0)  # [BM, K] or [K, BM]
    if BY_COORDINATE:
        offset = tl.load(codebook + coordinate, mask=coordinate < D, other=0.0)  # [1, K] or [K, 1]
        step = tl.load(codebook + D + coordinate, mask=coordinate < D, other=0.0)  # [1, K] or [K, 1]
        members = tl.fma(code.to(tl.float32), step, offset)  # [BM, K] or [K, BM]
    else:
        members = tl.load(codebook + code.to(tl.int32) * D + coordinate, mask=used, other=0.0)  # [BM, K] or [K, BM]
    return members


@triton.jit
def _compute_logits(
    members, takes_part, vectors, inner_weights, outer_weights, constants, D: tl.constexpr, PRECISION: tl.constexpr
):
    """Compute logits [BW, BM] of members from `_load_members` for windows [BW, K]; `NOTHING` of who takes no part."""
    _, coordinate = _spread(takes_part, tl.arange(0, vectors.shape[1]))
    squares = members * members  # [BM, K] or [K, BM]
    inner = tl.sum(tl.where(coordinate < D - 2, squares, 0.0), axis=1 if MEMBERS_FIRST else 0)  # [BM]
    outer = tl.sum(tl.where(coordinate >= D - 2, squares, 0.0), axis=1 if MEMBERS_FIRST else 0)  # [BM]
    if MEMBERS_FIRST:
        members = tl.trans(members)  # [K, BM]
    logits = tl.dot(vectors, members, input_precision=PRECISION)  # [BW, BM]
    logits = tl.fma(inner_weights[:, None], inner[None, :], logits)  # [BW, BM]
    logits = tl.fma(outer_weights[:, None], outer[None, :], logits + constants[:, None])  # [BW, BM]
    return tl.where(takes_part[None, :], logits, NOTHING)


@triton.jit
def _load_windows(vectors, weights, first, count, K: tl.constexpr, BW: tl.constexpr):
    """Load a tile of windows: vectors [BW, K], weights of two norms, and constants [BW], `NOTHING` beyond `count`."""
    w, k = tl.arange(0, BW), tl.arange(0, K)
    there = w < count  # [BW]
    at = first + tl.where(there, w, 0)  # [BW]
    rows = tl.load(vectors + at.to(tl.int64)[:, None] * K + k[None, :])  # [BW, K]
    inner, outer = tl.load(weights + at * 3), tl.load(weights + at * 3 + 1)  # [BW]
    return rows, inner, outer, tl.where(there, tl.load(weights + at * 3 + 2), NOTHING)


@triton.jit(do_not_specialize=["image_count"])
def sum_visits(
    work, codes, image_ids, codebook, allowed, vectors, weights, highest, sums, image_count,
    D: tl.constexpr, K: tl.constexpr, BYTES: tl.constexpr, BY_COORDINATE: tl.constexpr, MASKED: tl.constexpr,
    BW: tl.constexpr, BM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Find the highest logit of a piece's members for each visit, and sum their weights relative to it.

    Args:
        work: int32 [programs, FIELDS].
        codes, image_ids, codebook: uint8 [T, BYTES], int32 [T], float [2 or 256, D].
        allowed: uint8 [image_count], whose members take part; read with MASKED.
        vectors, weights: float [V, K] and [V, 3], the visits' vectors, weights of two norms, and constants.
        highest, sums: float, written at a piece's place for its visits; `NOTHING` and 0 where no member takes part.
    """
    piece = work + tl.program_id(0).to(tl.int64) * FIELDS
    count, begin, end, out = tl.load(piece + 1), tl.load(piece + 3), tl.load(piece + 4), tl.load(piece + 5)
    rows, inner, outer, constants = _load_windows(vectors, weights, tl.load(piece), count, K, BW)
    top, total = tl.full((BW,), NOTHING, tl.float32), tl.zeros((BW,), tl.float32)  # [BW]
    for first in range(begin, end, BM):
        place = first + tl.arange(0, BM)  # [BM]
        _, takes_part = _find_images(image_ids, allowed, place, end, image_count, MASKED)
        members = _load_members(codes, codebook, place, end, D, K, BYTES, BY_COORDINATE)
        logits = _compute_logits(members, takes_part, rows, inner, outer, constants, D, PRECISION)  # [BW, BM]
        higher = tl.maximum(top, tl.max(logits, axis=1))  # [BW]
        shares = tl.where(logits > SOMETHING, tl.exp2(logits - higher[:, None]), 0.0)  # [BW, BM]
        total = total * tl.exp2(top - higher) + tl.sum(shares, axis=1)  # [BW]
        top = higher
    w = tl.arange(0, BW)
    tl.store(highest + out + w, top, mask=w < count)
    tl.store(sums + out + w, total, mask=w < count)


@triton.jit(do_not_specialize=["image_count", "several"])
def add_votes(
    work, codes, image_ids, codebook, allowed, vectors, weights, votes, image_count, several,
    D: tl.constexpr, K: tl.constexpr, BYTES: tl.constexpr, BY_COORDINATE: tl.constexpr, MASKED: tl.constexpr,
    BW: tl.constexpr, BM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add to votes int64 [image_count, several] what a piece's members weigh, summed over windows of one row.

    Arguments as for `sum_visits`; the constants hold the normalisers.
    """
    piece = work + tl.program_id(0).to(tl.int64) * FIELDS
    count, row, begin, end = tl.load(piece + 1), tl.load(piece + 2), tl.load(piece + 3), tl.load(piece + 4)
    rows, inner, outer, constants = _load_windows(vectors, weights, tl.load(piece), count, K, BW)
    for first in range(begin, end, BM):
        place = first + tl.arange(0, BM)  # [BM]
        image, takes_part = _find_images(image_ids, allowed, place, end, image_count, MASKED)
        members = _load_members(codes, codebook, place, end, D, K, BYTES, BY_COORDINATE)
        logits = _compute_logits(members, takes_part, rows, inner, outer, constants, D, PRECISION)  # [BW, BM]
        shares = tl.where(logits > FAINT, tl.exp2(tl.minimum(logits, CEILING)), 0.0)  # [BW, BM]
        whole = (tl.minimum(tl.sum(shares, axis=0), LARGEST_SHARE) * VOTE).to(tl.int64)  # [BM]
        at = tl.where(takes_part, image, 0).to(tl.int64) * several + row  # [BM]
        tl.atomic_add(votes + at, whole, mask=takes_part & (whole > 0), sem="relaxed")


@triton.jit(do_not_specialize=["image_count", "several"])
def add_evenly(work, image_ids, allowed, even, votes, image_count, several, MASKED: tl.constexpr, BM: tl.constexpr):
    """Add to votes int64 [image_count, several] what each of a piece's members gets: its cell's row of `even`.

    Args:
        work: int32 [programs, 3]: row of `even`, first member, end of the members.
        image_ids, allowed: as for `sum_visits`.
        even: int64 [cells that give, several].
        votes: as for `add_votes`.
        image_count, several: sizes of votes.
    """
    piece = work + tl.program_id(0).to(tl.int64) * 3
    cell, begin, end = tl.load(piece).to(tl.int64), tl.load(piece + 1), tl.load(piece + 2)
    for first in range(begin, end, BM):
        place = first + tl.arange(0, BM)  # [BM]
        image, takes_part = _find_images(image_ids, allowed, place, end, image_count, MASKED)
        at = tl.where(takes_part, image, 0).to(tl.int64) * several  # [BM]
        for row in range(several):
            whole = tl.load(even + cell * several + row)
            tl.atomic_add(votes + at + row, tl.full((BM,), 0, tl.int64) + whole, mask=takes_part, sem="relaxed")
