"""Inverted lists that are scanned on the CPU, where they lie: in memory, or mapped from files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.coarse import cell_kernels, member_kernels
from nda_index.coarse.cells import Cells
from nda_index.coarse.limits import NOTHING, REST_ALIKE
from nda_index.coarse.lists import Images, Rules, Sums
from nda_index.coarse.member_kernels import Lists, freeze
from nda_index.coarse.visits import GroupedWindows, Visits, Windows


@dataclass(frozen=True)
class CpuChoice:
    """`nda_index.coarse.lists.Choice`, with the table that it was made from.

    Attributes:
        masses, is_flat: float32 and bool [W, C], from `cell_kernels.weigh_cells`.
        counts: int64 [C], the members of each cell.
    """

    cells: NDArray[np.int64]
    flat_total: NDArray[np.float64]
    masses: NDArray[np.float32]
    is_flat: NDArray[np.bool_]
    counts: NDArray[np.int64]
    backend: str = "cpu"

    def sum_flat(self, log_weights: NDArray[np.float64]) -> Sums:
        """Sum the weight of one member of each cell over the windows for which the cell is flat: [C]."""
        out = np.empty(len(self.counts))
        cell_kernels.sum_flat(self.masses, self.is_flat, log_weights, self.counts, out)
        return Sums(out, self.backend)


@dataclass(frozen=True)
class CpuLists:
    """`nda_index.coarse.lists.InvertedLists` of this machine's cores."""

    cells: Cells

    def choose(self, windows: GroupedWindows, units: NDArray[np.float32], rules: Rules) -> CpuChoice:
        """Weigh all cells for a query's windows, and choose those that each visits."""
        census, rest = self.cells.census, len(units) - 3
        means, spreads = census.means.astype(np.float32) * units, census.variances.astype(np.float32) * units**2
        extra = np.float32(1 - REST_ALIKE**2) * (means[:, rest] ** 2 + spreads[:, rest])  # [C]
        means[:, rest] *= REST_ALIKE
        counts = cell_kernels.read_only(census.counts)
        masses = np.empty((len(windows.vectors), len(means)), np.float32)
        is_flat = np.empty(masses.shape, np.bool_)
        moments = cell_kernels.CellMoments(counts, means, spreads, extra)
        cell_kernels.weigh_cells(windows, moments, rules.flat, masses, is_flat)
        chosen = np.empty((len(masses), rules.probes), np.int64)
        flat_total = np.empty(len(masses))
        cell_kernels.choose_cells(masses, is_flat, rules.far, rules.unvisited, chosen, flat_total)
        return CpuChoice(chosen, flat_total, masses, is_flat, counts)

    def sum_visits(self, visits: Visits, windows: Windows, images: Images) -> Sums:
        """Sum what a cell's members weigh for the window that visits it: log masses of the visits, [V]."""
        highest = np.full(len(visits.windows), NOTHING, np.float32)
        sums = np.zeros(len(visits.windows), np.float32)
        windows = windows._replace(constants=windows.constants.astype(np.float32))
        for lists in self._lists(images):
            member_kernels.sum_visits(lists, visits, windows, numba.get_num_threads(), highest, sums)
        with np.errstate(divide="ignore"):
            return Sums(np.asarray(np.log2(sums) + highest.astype(np.float64)), "cpu")

    def add_votes(self, visits: Visits, windows: Windows, even: NDArray[np.float32], images: Images) -> Sums:
        """Add up the members' weights for each image and row, [N, R], and what a cell gives evenly."""
        votes = np.zeros((numba.get_num_threads(), images.count, even.shape[1]), np.float32)
        windows = windows._replace(constants=windows.constants.astype(np.float32))
        for lists in self._lists(images):
            member_kernels.add_votes(lists, visits, windows, even, votes)
        return Sums(np.asarray(votes.sum(axis=0, dtype=np.float64)), "cpu")

    def _lists(self, images: Images) -> Iterator[Lists]:
        allowed = images.allowed if images.allowed is not None else np.empty(0, np.bool_)
        centroids, codebook, alike = self.cells.centroids, self.cells.codebook, np.float32(REST_ALIKE)
        for segment in self.cells.segments:
            members = segment.codes, segment.image_ids, segment.offsets
            yield freeze(Lists(*members, centroids, codebook, alike, allowed, images.count))
