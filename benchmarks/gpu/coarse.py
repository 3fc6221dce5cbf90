"""A flat coarse pass as a Triton kernel: all short vectors of all images against all of a query's, without lists."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["query_tiles", "images_each", "count"])
def flat_pass(
    vectors, query, norms, reference, out, unit, query_tiles, images_each, count,
    COORDINATES: tl.constexpr, WINDOWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Sum the weights 2 ** (reference - unit |x - y|^2) of each image over its windows and the query's.

    vectors fp16 [N, WINDOWS, COORDINATES]; query fp16 [Q, COORDINATES]; norms, reference float [Q]; out float [N].
    """
    k, w = tl.arange(0, COORDINATES), tl.arange(0, WINDOWS)
    begin = tl.program_id(0).to(tl.int64) * images_each
    for n in range(begin, tl.minimum(begin + images_each, count)):
        y = tl.load(vectors + n * (WINDOWS * COORDINATES) + w[None, :] * COORDINATES + k[:, None])  # [K, WINDOWS]
        wide = y.to(tl.float32)  # [K, WINDOWS]
        squares = tl.sum(wide * wide, axis=0)  # [WINDOWS]
        total = tl.zeros((TILE,), tl.float32)  # [TILE]
        for tile in range(query_tiles):
            p = tile * TILE + tl.arange(0, TILE)  # [TILE]
            product = tl.dot(tl.load(query + p[:, None] * COORDINATES + k[None, :]), y)  # [TILE, WINDOWS]
            near = tl.load(reference + p) - unit * tl.load(norms + p)  # [TILE]
            exponent = near[:, None] - unit * (squares[None, :] - 2.0 * product)  # [TILE, WINDOWS]
            total += tl.sum(tl.exp2(exponent), axis=1)  # [TILE]
        tl.store(out + n, tl.sum(total, axis=0))
