"""The exact posterior on the CPU: one sweep over displacements, sixteen training images side by side.

For a fixed displacement d between query and training window, D(p, p + d) is a box filter over the squared difference of
the query and the shifted training image, so its cost per pair of windows does not depend on the patch (the
integral-image trick of fast non-local means). Down the columns the filter adds sums from the start and to the end of
blocks as long as the window (van Herk 1992, Gil and Werman 1993): three additions whatever its length, and no
subtraction, so float32 keeps its relative precision where running sums would lose it.

Distances are divided by signal ** 2: D = signal^2 * |P(x_t) / signal - P(y)|^2, so that the training images stay as
they are and several noisy queries are compared while an image is in the cache.

Two passes. The first finds at each query position the distance of a good match, from the smallest displacements and,
where there are many images, from a sample of them; what other blocks are known to sum to may count as a better one. The
second sums weights. A pair whose weight is below 2^-(LEFT_OUT_BITS + 1) / pairs of the good match's is left out. The
position's total is at least that match's weight, and it has `pairs` pairs: so all that is left out is together below
2^-(LEFT_OUT_BITS + 1) of the total. The other bit is for the rounding of the distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.exact.borders import PairPlan, border_is_negligible, pair_plan
from nda_index.exact.cpu_distances import Images
from nda_index.exact.cpu_kernels import (
    BEST,
    NEAREST,
    ONTO_PIXELS,
    ONTO_TRAIN,
    SUM,
    Limits,
    Plan,
    Purpose,
    Results,
    sweep,
)
from nda_index.exact.masses import LEFT_OUT_BITS, Masses
from nda_index.exact.simd import LANES
from nda_index.scales import Scale, block_means

SMALL_VARIANCE = 2e-3  # below it, distances are so large in units of sigma^2 that their float32 rounding shows
COLOUR = 3.0  # largest square of a pixel's colour in [-1, 1], for which that was measured
LARGE_PENALTY = 1000.0  # logit of one pixel outside against one inside, above which float32 drowns the others
OVERFLOW = 2.0**100  # a sum this large may have lost terms that `exp2` holds at 2^126
SAMPLED = 32  # the first pass compares one group of images in this many in full
WORK_ITEMS = 8  # pieces of work, at least, for the cores to share
LAST_BITS = 125.0  # the smallest weight that counts is 2^-125: `exp2` holds weights from 2^-126 on
LEAST_EXPONENT = -1000.0  # a factor of 2^-1000 leaves nothing of a total, and `np.exp2` of its half is still a float64
NO_SPANS = np.zeros((0, 4), np.int64)  # a purpose that fills no pixels

Block = NDArray[np.floating]


@dataclass(frozen=True)
class _Sweep:
    """Arguments of a sweep that its passes share."""

    train: Block
    outside: np.floating
    queries: Block  # [V, H', C, W']
    bits: Block  # [V]
    plan: PairPlan
    scale: Scale

    @property
    def positions(self) -> int:
        return self.plan.query_shape[0] * self.plan.query_shape[1]

    def run(
        self,
        purpose: int,
        reference: Block,
        cut: Block,
        k: int = 0,
        plan: PairPlan | None = None,
        spans: NDArray[np.int64] = NO_SPANS,
    ) -> tuple[Block, Block, int]:
        """Return sums or distances [V, N, targets], those over the k best, and how many vectors of pairs are left out.

        Those that fill `spans` of pixels are sums over groups of images, [V, N / 16, targets].
        """
        plan = plan or self.plan
        (count, channels, height, width), dtype = self.train.shape, self.queries.dtype
        groups = -(-count // LANES)
        parts = 1 if purpose == BEST else -(-WORK_ITEMS // groups)
        targets = self.positions
        if purpose == ONTO_TRAIN:
            targets = plan.train_shape[0] * plan.train_shape[1]
        elif purpose == ONTO_PIXELS:
            targets = height * width * (channels + 1)
        sums = groups if purpose == ONTO_PIXELS else groups * LANES
        out = np.empty((parts, len(self.queries), sums, targets), dtype)
        best = np.empty(out.shape[1:] if purpose == BEST else (0, 0, 0), dtype)
        skipped = np.zeros(groups * parts, np.int64)
        sweep(
            Images(self.train, self.outside, self.queries),
            Plan(plan.rows, plan.columns, self.scale.taps, self.scale.downscale, self.scale.padding,
                 self.scale.query_stride, self.scale.train_stride, plan.query_shape[1], plan.train_shape[1]),
            Limits(self.bits, reference, cut), Purpose(purpose, k, spans), Results(out, best, skipped),
        )  # fmt: skip
        with np.errstate(over="ignore"):
            whole = out[0] if parts == 1 else out.min(axis=0) if purpose == NEAREST else out.sum(axis=0)
        return whole[:, :count], best[:, :count], int(skipped.sum())


def masses(
    queries: Sequence[NoisyImage],
    train: Block,
    scale: Scale,
    mask_value: float,
    per_image_topk: int | None,
    floors: Sequence[NDArray[np.float64] | None],
) -> list[Masses]:
    """Return the masses of clean training images [N, C, H, W] for several noisy queries.

    `floors` hold a lower bound of the log of each query's normaliser [P], from other images, or None.
    """
    masses_of: dict[int, Masses] = {}
    for precise in (False, True):
        chosen = [i for i, query in enumerate(queries) if _needs_float64(query, 0.0) == precise]
        if chosen:
            group = [queries[i] for i in chosen]
            results = _sum_masses(group, train, scale, None, per_image_topk, [floors[i] for i in chosen])
            masses_of.update(zip(chosen, results, strict=True))
    if not np.isinf(mask_value):
        for i, query in enumerate(queries):
            largest = float(np.abs(train).max())
            if not border_is_negligible(query, largest, len(train), scale, mask_value, masses_of[i].log_total):
                masses_of[i] = _sum_masses([query], train, scale, mask_value, per_image_topk, [floors[i]])[0]
    return [masses_of[i] for i in range(len(queries))]


def train_maps(
    query: NoisyImage, train: Block, scale: Scale, log_normaliser: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what `reference.train_map` does for several images at `mask_value=inf`: float64 [N, rows, columns]."""
    setup = _prepare([query], train, scale, None)
    maps, _, _ = setup.run(ONTO_TRAIN, *_limit_by_normalisers(setup, [log_normaliser]))
    return np.asarray(maps[0], np.float64).reshape(len(train), *setup.plan.train_shape)


def pixel_sums(
    queries: Sequence[NoisyImage],
    train: Block,
    scale: Scale,
    log_normalisers: Sequence[NDArray[np.float64]],
    spans: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Sum weighted training pixels, and the weights, over windows of equal overhang, images and queries.

    Args:
        queries, train, scale: as for `masses`.
        log_normalisers: of each query's whole posterior, float64 [P].
        spans: int64 [P, 4], first row, end of rows, first column and end of columns of the pixels that take the window
            at a query position; they must lie in the window.

    Returns:
        float64 [H, W, C + 1], the weights' sums last.
    """
    height, width = train.shape[2:]
    total = np.zeros((height, width, train.shape[1] + 1))
    for precise in (False, True):
        chosen = [i for i, query in enumerate(queries) if _needs_float64(query, 0.0) == precise]
        if chosen:
            setup = _prepare([queries[i] for i in chosen], train, scale, None)
            limits = _limit_by_normalisers(setup, [log_normalisers[i] for i in chosen])
            sums, _, _ = setup.run(ONTO_PIXELS, *limits, spans=spans)
            total += sums.sum(axis=(0, 1), dtype=np.float64).reshape(total.shape)
    return total


def _sum_masses(
    queries: Sequence[NoisyImage],
    train: Block,
    scale: Scale,
    outside: float | None,
    per_image_topk: int | None,
    floors: Sequence[NDArray[np.float64] | None],
) -> list[Masses]:
    """Compare every pair of windows where `outside` is a value, else those of equal overhang."""
    setup = _prepare(queries, train, scale, outside)
    windows = setup.plan.train_shape[0] * setup.plan.train_shape[1]
    k = per_image_topk if per_image_topk is not None and per_image_topk < windows else 0
    purpose = BEST if k else SUM
    match = _find_matches(setup, floors)
    reference, cut = _limit_by_matches(setup, match)
    total, best, skipped = setup.run(purpose, reference, cut, k)
    overflow = (~(total < OVERFLOW)).any(axis=(0, 2))
    if overflow.any():
        # Some image matches far better than the first pass saw. Take its distances, exactly this time.
        again = replace(setup, train=setup.train[overflow])
        match = np.minimum(match, _find_nearest(again, again.plan).min(axis=1))
        before, (reference, cut) = reference, _limit_by_matches(setup, match)
        exponent = np.maximum(reference - before, LEAST_EXPONENT)[:, None]  # [V, 1, P]
        half = np.exp2(exponent / 2).astype(
            total.dtype
        )  # in two steps: the whole factor may be below the smallest float
        for part in (total, best) if k else (total,):
            part[:, overflow] = 0
            with np.errstate(under="ignore"):
                part *= half
                part *= half
        sums = again.run(purpose, reference, cut, k)
        total[:, overflow] = sums[0]
        if k:
            best[:, overflow] = sums[1]
    log_unit = reference.astype(np.float64) * -np.log(2)
    left_out = 2.0**-LEFT_OUT_BITS if skipped else 0.0
    return [Masses(total[v], best[v] if k else total[v], log_unit[v], left_out, "cpu") for v in range(len(queries))]


def _limit_by_matches(setup: _Sweep, match: Block) -> tuple[Block, Block]:
    """Return for each position, [V, P], bits of a distance of weight 1; the distance of weight 2^-LAST_BITS.

    The good match itself weighs little, to leave room in the exponent for matches that the first pass has not seen.
    Bits are whole: a weight differs in its exponent alone by what it is relative to, so that sums do not depend on
    which images are computed together.
    """
    left_out = _count_bits_left_out(setup)
    bits = setup.bits[:, None].astype(np.float64)
    reference = np.floor(match * bits - max(0.0, LAST_BITS - left_out))
    return reference.astype(match.dtype), (match + left_out / bits).astype(match.dtype)


def _limit_by_normalisers(setup: _Sweep, log_normalisers: Sequence[NDArray[np.float64]]) -> tuple[Block, Block]:
    """Do the same where the normalisers are known: a weight is a part of the whole."""
    with np.errstate(invalid="ignore"):
        reference = (np.stack(log_normalisers) / -np.log(2)).astype(setup.queries.dtype)
    possible = np.isfinite(reference)
    farthest = (reference + _count_bits_left_out(setup)) / setup.bits[:, None]
    cut = np.where(possible, farthest, -np.inf).astype(setup.queries.dtype)
    return np.where(possible, reference, 0).astype(setup.queries.dtype), cut


def _count_bits_left_out(setup: _Sweep) -> float:
    pairs = len(setup.train) * setup.plan.train_shape[0] * setup.plan.train_shape[1]
    return LEFT_OUT_BITS + 1 + float(np.log2(pairs))


def _find_matches(setup: _Sweep, floors: Sequence[NDArray[np.float64] | None]) -> Block:
    """Return a distance at every query position that some pair has, or 0 where there is no pair: [V, P].

    A floor counts as one: the distance at which a single pair would sum to it.
    """
    nearest = _find_nearest(setup, setup.plan.smallest(setup.scale.train_stride)).min(axis=1)
    if len(setup.train) >= SAMPLED * LANES:  # one group of images in full: little work compared with the rest
        sampled = setup.train[:: len(setup.train) // LANES][:LANES]
        # A copy: for images that are not side by side in memory, Numba would compile the kernel again.
        sample = replace(setup, train=np.ascontiguousarray(sampled))
        nearest = np.minimum(nearest, _find_nearest(sample, setup.plan).min(axis=1))
    if np.isinf(nearest).any():
        nearest = _find_nearest(setup, setup.plan).min(axis=1)
    for v, floor in enumerate(floors):
        if floor is not None:
            nearest[v] = np.minimum(nearest[v], -floor / np.log(2) / setup.bits[v])
    return np.where(np.isinf(nearest), 0, nearest).astype(nearest.dtype)


def _find_nearest(setup: _Sweep, plan: PairPlan) -> Block:
    """Return the smallest distance at each query position over the windows of each image: [V, N, P]."""
    everything = np.full((len(setup.queries), setup.positions), np.inf, setup.queries.dtype)
    return setup.run(NEAREST, everything, everything, plan=plan)[0]


def _prepare(queries: Sequence[NoisyImage], train: Block, scale: Scale, outside: float | None) -> _Sweep:
    """Set up a sweep for queries that share one float type."""
    dtype = np.float64 if _needs_float64(queries[0], outside or 0.0) else np.float32
    pad = ((0, 0), (scale.padding,) * 2, (scale.padding,) * 2)
    means = []
    for query in queries:
        padded = np.pad(query.pixels.astype(np.float64), pad, constant_values=outside or 0.0) / query.signal
        means.append(block_means(padded, scale.downscale).transpose(1, 0, 2))  # [H', C, W']
    bits = np.array([query.signal**2 / (2 * query.sigma**2 * np.log(2)) for query in queries])
    plan = pair_plan(queries[0].pixels.shape[1], queries[0].pixels.shape[2], scale, matching_overhang=outside is None)
    return _Sweep(
        np.ascontiguousarray(train, dtype), dtype((outside or 0.0) / queries[0].signal),
        np.ascontiguousarray(means, dtype), bits.astype(dtype), plan, scale,
    )  # fmt: skip


def _needs_float64(query: NoisyImage, outside: float) -> bool:
    """Tell whether float32 rounds too much: sooner for latents, whose numbers, and so distances, may be larger."""
    square = float(np.square(query.pixels, dtype=np.float64).sum(axis=0).mean()) / query.signal**2
    return bool(
        query.sigma**2 < SMALL_VARIANCE * max(1.0, square / COLOUR) or outside**2 > LARGE_PENALTY * 2 * query.sigma**2
    )
