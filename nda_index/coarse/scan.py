"""The two passes over the members of visited cells: the first sums what they weigh, the second gives their votes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.coarse import member_kernels
from nda_index.coarse.cell_kernels import NOTHING
from nda_index.coarse.cells import Cells
from nda_index.coarse.member_kernels import Lists, Visits, Windows, freeze

# Measured: docs/studies/shortlist.md.
THIN = 0.003  # votes of a window that a visited cell must be worth, all its members together, to give any
REST_ALIKE = 0.6  # cosine of what two patches have outside their coordinates
FAINT_CELL = 1e-7  # of a query's flat votes that a cell must hold to give any: sums in float32 lose less


@dataclass(frozen=True)
class Scan:
    """The members that one or several queries look at, for each of the two passes over them.

    Attributes:
        cells: whose members they are.
        count: number of images N.
        allowed: bool [N], which images take part; None: all.
        visits: of the windows of all queries, which are numbered one query after another.
        vectors, constants: of these windows, with which `Windows` are made: float32 [W, d + 2] and float64 [W].
        rows: int64 [W], the row of votes that each window adds to; ascending.
    """

    cells: Cells
    count: int
    allowed: NDArray[np.bool_] | None
    visits: Visits
    vectors: NDArray[np.float32]
    constants: NDArray[np.float64]
    rows: NDArray[np.int64]

    def sum_visits(self) -> NDArray[np.float64]:
        """Sum what a cell's members weigh for the window that visits it: log masses of the visits, [V]."""
        highest = np.full(len(self.visits.windows), NOTHING, np.float32)
        sums = np.zeros(len(self.visits.windows), np.float32)
        windows = Windows(self.vectors, self.constants.astype(np.float32), self.rows)
        for lists in self._lists():
            member_kernels.sum_visits(lists, self.visits, windows, numba.get_num_threads(), highest, sums)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log2(sums) + highest.astype(np.float64))

    def sum_windows(self, log_masses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum log masses of visits, [V], over the cells that each window visits: [W]."""
        out = np.full(len(self.vectors), -np.inf)
        np.logaddexp2.at(out, self.visits.windows, log_masses)
        return out

    def add_votes(
        self,
        log_masses: NDArray[np.float64],
        log_weights: NDArray[np.float64],
        log_factors: NDArray[np.float64],
        even: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Add up the votes: [R, N].

        Args:
            log_masses: float64 [V], from `sum_visits`, of the images of all shards.
            log_weights: float64 [W], of each window's weight over its normaliser.
            log_factors: float64 [W], of what a window's votes count beside others'.
            even: float32 [C, R], what each member of a cell gets because the cell is flat.
        """
        counts = self.cells.census.counts
        flat_votes = even * counts[:, None]  # [C, R]
        gives = (flat_votes > FAINT_CELL * flat_votes.sum(axis=0)).any(axis=1)  # [C]
        gives[self.visits.cells] = True
        cells = np.flatnonzero(gives)
        worth = np.exp2(log_masses + log_weights[self.visits.windows]) > THIN  # [V]
        visitors = np.zeros(len(counts), np.int64)
        visitors[self.visits.cells] = np.add.reduceat(worth, self.visits.starts[:-1]) if len(worth) else 0
        starts = np.concatenate([[0], np.cumsum(visitors[cells])])
        visits = Visits(cells, starts, self.visits.windows[worth])
        constants = (self.constants + log_weights + log_factors).astype(np.float32)
        windows = Windows(self.vectors, constants, self.rows)
        votes = np.zeros((numba.get_num_threads(), self.count, even.shape[1]), np.float32)
        for lists in self._lists():
            member_kernels.add_votes(lists, visits, windows, even, votes)
        return np.asarray(votes.sum(axis=0, dtype=np.float64).T)

    def _lists(self) -> Iterator[Lists]:
        allowed = self.allowed if self.allowed is not None else np.empty(0, np.bool_)
        centroids, codebook, alike = self.cells.centroids, self.cells.codebook, np.float32(REST_ALIKE)
        for segment in self.cells.segments:
            members = segment.codes, segment.image_ids, segment.offsets
            yield freeze(Lists(*members, centroids, codebook, alike, allowed, self.count))
