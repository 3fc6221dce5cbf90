"""The exact posterior on a GPU: totals of all positions in one launch, scores of all images in a second.

Between them nothing of size images x positions is kept: once a position's normaliser is known, an image is one number.
The kernel (`nda_index.exact.gpu_kernels`) does what `nda_index.exact.cpu` does, at windows of equal overhang. Distances
are sums of whole numbers: pixels are scaled so that the sum of a window's row of squared differences stays below 2^30,
and each square is rounded. At the variances that the GPU takes (`SMALL_VARIANCE`) that moves a logit by less than 1e-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nda_index.diffusion import NoisyImage
from nda_index.errors import MissingDependencyError
from nda_index.exact.borders import PairPlan, pair_plan
from nda_index.scales import Scale

SMALL_VARIANCE = 2e-3  # sigma^2 below which the rounding of squares to whole numbers shows
LARGEST_SUM = 2.0**30  # of a row of squares; sums of `taps` rows are floats
ROWS = 32  # rows of a tile
IMAGES = 64  # images of a program
CHUNKS = 8  # programs that share a tile's horizontal displacements
DEVICE = "cuda"
OVERFLOW = 2.0**100  # a sum this large may have lost terms: the kernel holds weights at 2^126
NO_WEIGHT = -1e30  # the reference of a position that nothing matches: all its weights are 0

Purpose = Literal["nearest", "totals", "scores"]


@dataclass(frozen=True)
class TilePlan:
    """What the kernel walks through: int32 tensors on the device, explained in `gpu_kernels.sweep`."""

    tiles: Tensor
    runs: Tensor
    limits: Tensor

    def on(self, device: torch.device) -> TilePlan:
        """Return the same on a device."""
        return TilePlan(self.tiles.to(device), self.runs.to(device), self.limits.to(device))


def tile_plan(plan: PairPlan, scale: Scale, rows: int) -> TilePlan:
    """Pack rows into tiles of `rows`, and cut columns into chunks of about equal length."""
    return TilePlan(_pack_tiles(plan, scale, rows), *_cut_runs(plan, scale))


def log_totals(queries: Sequence[NoisyImage], train: Tensor, scale: Scale) -> list[NDArray[np.float64]]:
    """Return the log of the mass of all training images at every query position, [P] for each query.

    Args:
        queries: noisy images.
        train: float [N, C, H, W] on the device, clean training images.
        scale: patch and strides.
    """
    launch = _Launch.prepare(queries, train, scale)
    nearest = launch.nearest(launch.plan.smallest(scale.train_stride))
    if not torch.isfinite(nearest).all():
        nearest = launch.nearest(launch.plan)
    totals = launch.totals(nearest)
    if not (totals < OVERFLOW).all():  # some match is far better than those at the smallest displacements
        nearest = launch.nearest(launch.plan)
        totals = launch.totals(nearest)
    nearest = torch.where(torch.isfinite(nearest), nearest, 0.0)  # [V, P]
    logs = totals.double().log() - nearest.double() * launch.bits.double()[:, None] * np.log(2)  # [V, P]
    return list(logs.cpu().numpy())


def scores(
    queries: Sequence[NoisyImage], train: Tensor, scale: Scale, log_normalisers: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """Return the scores of the training images, float64 [N] for each query, at scale weight 1."""
    launch = _Launch.prepare(queries, train, scale)
    normalisers = torch.from_numpy(np.stack(log_normalisers)).to(train.device)  # [V, P]
    reference = -normalisers / np.log(2) / launch.bits.double()[:, None]  # [V, P]
    reference = torch.where(torch.isfinite(reference), reference, NO_WEIGHT)  # [V, P]
    tiling = tile_plan(launch.plan, scale, launch.rows).on(train.device)
    parts = len(tiling.tiles) * (len(tiling.limits) - 1)
    out = torch.zeros(len(queries), parts, launch.padded, device=train.device)  # [V, T * chunks, N]
    launch.run("scores", tiling, reference.float(), out)
    return list(out.double().sum(dim=1)[:, : launch.count].cpu().numpy())


def available() -> bool:
    """Return whether there is a CUDA device, and Triton to make kernels for it."""
    if not torch.cuda.is_available():
        return False
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class _Launch:
    """Device arrays that the passes share; pixels are scaled by `grain`, whose square is one unit of distance."""

    query: Tensor  # [V, H', C, W']
    train: Tensor  # [H', C, W', padded N]
    bits: Tensor  # [V]
    plan: PairPlan
    scale: Scale
    count: int
    rows: int

    @property
    def padded(self) -> int:
        return self.train.shape[3]

    @staticmethod
    def prepare(queries: Sequence[NoisyImage], train: Tensor, scale: Scale) -> _Launch:
        device, height, width = train.device, train.shape[2], train.shape[3]
        noisy = torch.stack([torch.from_numpy(np.array(q.pixels, np.float64) / q.signal) for q in queries])
        query = _average_blocks(noisy.to(device), scale)  # [V, C, H', W']
        means = _average_blocks(train.float(), scale)  # [N, C, H', W']
        largest = (float(query.abs().max()) + float(means.abs().max())) or 1.0
        grain = np.sqrt(LARGEST_SUM / scale.taps / train.shape[1]) / largest
        padded = -(-len(train) // IMAGES) * IMAGES
        lanes = F.pad(means.permute(2, 1, 3, 0) * grain, (0, padded - len(train)))  # [H', C, W', padded N]
        bits = [q.signal**2 / (2 * q.sigma**2 * np.log(2)) / grain**2 for q in queries]
        return _Launch(
            (query * grain).permute(0, 2, 1, 3).float().contiguous(), lanes.contiguous(),
            torch.tensor(bits, dtype=torch.float32, device=device),
            pair_plan(height, width, scale, matching_overhang=True), scale, len(train),
            max(ROWS, 1 << (scale.taps - 1).bit_length()),
        )  # fmt: skip

    def nearest(self, plan: PairPlan) -> Tensor:
        """Return the smallest distance at every position, float [V, P], inf where no pair is planned."""
        positions = self.plan.query_shape[0] * self.plan.query_shape[1]
        infinite = torch.full((len(self.query), positions), torch.inf, device=self.query.device)  # [V, P]
        out = infinite.view(torch.int32)  # of numbers above 0 the bits are in the numbers' order
        self.run("nearest", tile_plan(plan, self.scale, self.rows).on(out.device), infinite, out)
        return out.view(torch.float32)

    def totals(self, reference: Tensor) -> Tensor:
        """Sum weights relative to `reference` over everything, float [V, P]."""
        out = torch.zeros_like(reference)  # [V, P]
        tiling = tile_plan(self.plan, self.scale, self.rows).on(out.device)
        self.run("totals", tiling, torch.where(torch.isfinite(reference), reference, 0.0), out)
        return out

    def run(self, purpose: Purpose, tiling: TilePlan, reference: Tensor, out: Tensor) -> None:
        kernels = _import_kernels()
        views, _, channels, width = self.query.shape
        chunks = len(tiling.limits) - 1
        grid = (self.padded // IMAGES, len(tiling.tiles) * chunks, views)
        kernels.sweep[grid](
            self.query, self.train, tiling.tiles, tiling.runs, tiling.limits, self.bits, reference, out,
            self.count, self.padded, self.query[0].numel(), width, self.train.shape[2], reference.shape[1], chunks,
            PURPOSE=purpose, CHANNELS=channels, TAPS=self.scale.taps, DOWNSCALE=self.scale.downscale,
            ROWS=self.rows, IMAGES=IMAGES,
        )  # fmt: skip


def _import_kernels() -> Any:
    try:
        from nda_index.exact import gpu_kernels
    except ImportError as error:
        raise MissingDependencyError(
            "the GPU backend needs Triton, which is not installed; `pip install triton`"
        ) from error
    return gpu_kernels


def _average_blocks(images: Tensor, scale: Scale) -> Tensor:
    """Average padded blocks: [N, C, H, W] to [N, C, H', W']."""
    padded = F.pad(images, (scale.padding,) * 4)  # [N, C, H + 2 pad, W + 2 pad]
    return F.avg_pool2d(padded, scale.downscale, stride=1) * scale.downscale  # [N, C, H', W']


def _pack_tiles(plan: PairPlan, scale: Scale, rows: int) -> Tensor:
    """Return int32 [T, 3, rows]: pieces of at most `rows` rows, the longest first into the first tile with room."""
    r, taps, columns = scale.downscale, scale.taps, plan.query_shape[1]
    pieces = []
    for dy, start, length, period, place, step in _list_axis_runs(plan.rows, scale):
        most = rows - taps + 1
        for first in range(0, length, most):
            rest = min(most, length - first)
            piece = np.full((3, rest + taps - 1), -1, np.int64)
            piece[0] = start + (first + np.arange(rest + taps - 1)) * r
            piece[1] = piece[0] + dy
            for i in range(rest):
                if (first + i) % period == 0:
                    piece[2, i] = (place + (first + i) // period * step) * columns
            pieces.append(piece)
    tiles: list[list[NDArray[np.int64]]] = []
    free: list[int] = []
    for piece in sorted(pieces, key=lambda piece: -piece.shape[1]):
        size = piece.shape[1]
        at = next((i for i, room in enumerate(free) if room >= size), len(tiles))
        if at == len(tiles):
            tiles.append([])
            free.append(rows)
        tiles[at].append(piece)
        free[at] -= size
    full = np.full((len(tiles), 3, rows), -1, np.int32)
    for tile, parts in zip(full, tiles, strict=True):
        joined = np.concatenate(parts, axis=1)
        tile[:, : joined.shape[1]] = joined
    return torch.from_numpy(full)


def _cut_runs(plan: PairPlan, scale: Scale) -> tuple[Tensor, Tensor]:
    runs = [(run[1], run[0], *run[2:]) for run in _list_axis_runs(plan.columns, scale)]
    work = np.cumsum([0] + [length + scale.taps - 1 for _, _, length, *_ in runs])
    limits = np.searchsorted(work, np.linspace(0, work[-1], min(CHUNKS, len(runs)) + 1))
    return torch.tensor(runs, dtype=torch.int32), torch.from_numpy(limits.astype(np.int32))


def _list_axis_runs(axis: NDArray[np.int64], scale: Scale) -> list[tuple[int, int, int, int, int, int]]:
    """List windows a block apart: displacement, first position, number, every how many is on the grid, place, step."""
    r, stride, runs = scale.downscale, scale.query_stride, []
    for d, first, end, step in axis.tolist():
        shared = gcd(step, r)
        for start in range(first, min(end, first + step * (r // shared)), step):
            runs.append(
                (d, start, len(range(start, end, r)), step // shared, start // stride, step * r // shared // stride)
            )
    return runs
