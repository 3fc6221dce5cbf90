"""Cells in torch: what mass each can hold for a window, which ones it visits, what the flat ones give.

The rules are those of `nda_index.coarse.cell_kernels`. A squared distance, weighted or not, is a product of (v^2, v)
with a matrix and a constant of the cell, in float64: expanded squares lose what they have in common, and float64 has
that to lose. What follows is float32 as on the CPU, and sums are float64. Logarithms are to base 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.coarse.gpu_lists import ResidentLists
from nda_index.coarse.limits import NEGLIGIBLE, NOTHING, REST_ALIKE
from nda_index.coarse.lists import Rules
from nda_index.coarse.visits import GroupedWindows
from nda_index.exact.gpu_launch import to_device

PAIR_BYTES = 64  # of a window and a cell, while the window's cells are chosen


@dataclass(frozen=True)
class DeviceChoice:
    """The cells that one query visits.

    Attributes:
        cells: int64 [W, probes], best first, -1 after the last one.
        flat_total: float64 [W], logarithm of the mass of the flat cells.
        flat: float32 [W, C] on the device, the masses of the cells that are flat for a window, else `NOTHING`.
    """

    cells: NDArray[np.int64]
    flat_total: NDArray[np.float64]
    flat: Tensor


@dataclass(frozen=True)
class _Moments:
    """What the cells' members are like, in a query's units, and what does not depend on its windows.

    Attributes:
        means, spreads: float64 [C, d]; the mean of the rest as much as two patches have alike.
        extra: float64 [C], added to every squared distance.
        squares: float64 [C], of the means.
        limits: float32 [C], deviations (nats) above which a cell is frozen.
        counts: float32 [C].
    """

    means: Tensor
    spreads: Tensor
    extra: Tensor
    squares: Tensor
    limits: Tensor
    counts: Tensor


def choose(
    lists: ResidentLists, windows: GroupedWindows, units: NDArray[np.float32], rules: Rules, scratch: int
) -> DeviceChoice:
    """Weigh all cells for a query's windows, and choose those that each visits.

    Args:
        lists: the cells.
        windows: in `units`.
        units: float32 [d], what the coordinates are multiplied with.
        rules: of the choice.
        scratch: bytes for what is computed on the way; windows are taken in blocks that fit.
    """
    moments = _scale_moments(lists, units)
    flat = torch.empty(len(windows.vectors), len(moments.counts), device=lists.device)  # [W, C]
    together = max(1, scratch // (PAIR_BYTES * flat.shape[1]))
    chosen = []
    for first in range(0, len(flat), together):
        masses, is_flat = weigh(moments, windows, first, min(first + together, len(flat)), rules.flat)
        chosen.append(_choose_best(masses, is_flat, rules))
        flat[first : first + together] = masses.masked_fill_(~is_flat, NOTHING)
    cells, flat_total = torch.cat(chosen).cpu().tensor_split([rules.probes], dim=1)
    return DeviceChoice(cells.numpy().astype(np.int64), flat_total.numpy()[:, 0], flat)


def sum_flat(choice: DeviceChoice, log_weights: NDArray[np.float64], counts: Tensor, scratch: int) -> Tensor:
    """Sum the weight of one member of each cell over the windows for which the cell is flat: float64 [C].

    Args:
        choice: from `choose`.
        log_weights: float64 [W], of a window's weight over its normaliser.
        counts: float32 [C], members of each cell.
        scratch: bytes for what is computed on the way.
    """
    flat = choice.flat
    weights = to_device(log_weights, flat.device)[:, None]  # [W, 1]
    total = torch.zeros(flat.shape[1], dtype=torch.float64, device=flat.device)  # [C]
    together = max(1, scratch // (PAIR_BYTES * flat.shape[1]))
    for first in range(0, len(flat), together):
        logs = flat[first : first + together].double() + weights[first : first + together]  # [n, C]
        total += torch.where(logs > NEGLIGIBLE, logs.exp2(), 0.0).sum(dim=0)  # [C]
    return total / counts.clamp(min=1)


def _scale_moments(lists: ResidentLists, units: NDArray[np.float32]) -> _Moments:
    scale, rest = to_device(units, lists.device), len(units) - 3
    means, spreads = (lists.means * scale).double(), (lists.spreads * scale**2).double()  # [C, d]
    extra = (1 - REST_ALIKE**2) * (means[:, rest] ** 2 + spreads[:, rest])  # [C]
    means[:, rest] *= REST_ALIKE
    counts = lists.counts
    limits = (2 * counts.clamp(min=2).log()).sqrt()  # [C]
    return _Moments(means, spreads, extra, means.square().sum(dim=1), limits, counts)


def weigh(moments: _Moments, windows: GroupedWindows, first: int, last: int, flat: float) -> tuple[Tensor, Tensor]:
    """Return the mass that each cell can hold for some windows, and whether it is flat there: float32, bool [n, C].

    Args:
        moments: of the cells.
        windows: of the query.
        first, last: of the windows, those that are weighed.
        flat: standard deviation of the members' logits, in nats, up to which a cell is flat.
    """
    means, spreads = moments.means, moments.spreads
    device = means.device
    vectors = to_device(windows.vectors[first:last], device).double()  # [n, d]
    left = torch.cat([vectors.square(), vectors], dim=1)  # [n, 2 d]
    rough_right = torch.cat([spreads, -2 * means * spreads], dim=1).T  # [2 d, C]
    plain_right = torch.cat([torch.ones_like(means), -2 * means], dim=1).T  # [2 d, C]
    rough_base = (means.square() * spreads).sum(dim=1) + spreads.square().sum(dim=1) / 2  # [C]
    plain_base = moments.squares + moments.extra + spreads.sum(dim=1)  # [C]
    smooth, deviation, freeze = torch.empty(3, len(left), len(means), dtype=torch.float64, device=device)  # [n, C]
    for a, b, variance in zip(windows.groups[:-1], windows.groups[1:], windows.variances.tolist(), strict=True):
        begin, end = max(int(a), first) - first, min(int(b), last) - first
        if begin >= end:
            continue
        some = left[begin:end]
        narrow = 1 / (variance + spreads)  # [C, d]
        full_right = torch.cat([narrow, -2 * means * narrow], dim=1).T  # [2 d, C]
        full_base = (means.square() * narrow).sum(dim=1) + moments.extra / variance  # [C]
        constant = moments.counts.double().log() - 0.5 * (spreads / variance).log1p().sum(dim=1)  # [C]
        torch.addmm(constant - full_base / 2, some, full_right, alpha=-0.5, out=smooth[begin:end])
        inverse = 1 / variance
        torch.addmm(rough_base * inverse**2, some, rough_right, alpha=inverse**2, out=deviation[begin:end])
        torch.addmm(plain_base * -inverse / 2, some, plain_right, alpha=-inverse / 2, out=freeze[begin:end])
    spread_out = deviation.float().clamp_(min=0).sqrt_()  # [n, C]
    smooth_mass = smooth.float()  # [n, C]
    frozen = torch.addcmul(freeze.float(), spread_out, moments.limits)  # [n, C]
    masses = torch.where(spread_out > moments.limits, torch.minimum(smooth_mass, frozen), smooth_mass)  # [n, C]
    return torch.where(moments.counts > 0, masses / math.log(2), NOTHING), spread_out < flat


def _choose_best(masses: Tensor, is_flat: Tensor, rules: Rules) -> Tensor:
    """Choose cells best first, until what is left of a window's mass is below a target: float64 [n, probes + 1].

    The last column is the logarithm of the sum of the flat cells, as in `cell_kernels.choose_cells`.
    """
    best = masses.amax(dim=1, keepdim=True)  # [n, 1]
    flat_masses = torch.where(is_flat, masses, NOTHING)  # [n, C]
    best_flat = flat_masses.amax(dim=1, keepdim=True)  # [n, 1]
    counts_flat = is_flat & (masses > best_flat - rules.far)  # [n, C]
    flat = torch.where(counts_flat, (masses - best_flat).exp2(), 0.0).sum(dim=1, dtype=torch.float64)  # [n]
    flat_total = torch.where(best_flat[:, 0] > NOTHING, best_flat[:, 0].double() + flat.log2(), NOTHING)  # [n]
    near = ~is_flat & (masses > best - rules.far)  # [n, C]
    sharp = torch.where(near, (masses - best).exp2(), 0.0).sum(dim=1, dtype=torch.float64)  # [n]
    even = (flat_total - best[:, 0]).exp2()  # [n]
    taken = min(rules.probes, masses.shape[1])
    top, cells = torch.where(near, masses, -torch.inf).topk(taken, dim=1)  # [n, taken]
    parts = (top - best).exp2().double()  # [n, taken]
    left = sharp[:, None] - parts.cumsum(dim=1) + parts  # [n, taken], before each
    visited = (left > rules.unvisited * (even + sharp)[:, None]) & top.isfinite()  # [n, taken]
    chosen = torch.full((len(masses), rules.probes + 1), -1.0, dtype=torch.float64, device=masses.device)
    chosen[:, :taken] = torch.where(visited, cells, -1)
    chosen[:, -1] = flat_total
    return chosen
