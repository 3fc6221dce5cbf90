"""The two passes over the members of visited cells: the first sums what they weigh, the second gives their votes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.lists import Images, InvertedLists, Sums
from nda_index.coarse.visits import Visits, Windows

# Measured: docs/studies/shortlist.md.
THIN = 0.003  # votes of a window that a visited cell must be worth, all its members together, to give any
FAINT_CELL = 1e-7  # of a query's flat votes that a cell must hold to give any: sums in float32 lose less


@dataclass(frozen=True)
class Scan:
    """The members that one or several queries look at, for each of the two passes over them.

    Attributes:
        lists: whose members they are.
        images: that take part.
        visits: of the windows of all queries, which are numbered one query after another.
        windows: of all queries, without their normalisers.
    """

    lists: InvertedLists
    images: Images
    visits: Visits
    windows: Windows

    def sum_visits(self) -> Sums:
        """Sum what a cell's members weigh for the window that visits it: log masses of the visits, [V]."""
        return self.lists.sum_visits(self.visits, self.windows, self.images)

    def sum_windows(self, log_masses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum log masses of visits, [V], over the cells that each window visits: [W]."""
        out = np.full(len(self.windows.vectors), -np.inf)
        np.logaddexp2.at(out, self.visits.windows, log_masses)
        return out

    def add_votes(
        self,
        log_masses: NDArray[np.float64],
        log_weights: NDArray[np.float64],
        log_factors: NDArray[np.float64],
        even: NDArray[np.float32],
    ) -> Sums:
        """Add up the votes: [R, N].

        Args:
            log_masses: float64 [V], from `sum_visits`, of the images of all shards.
            log_weights: float64 [W], of each window's weight over its normaliser.
            log_factors: float64 [W], of what a window's votes count beside others'.
            even: float32 [C, R], what each member of a cell gets because the cell is flat.
        """
        counts = self.lists.cells.census.counts
        flat_votes = even * counts[:, None]  # [C, R]
        gives = (flat_votes > FAINT_CELL * flat_votes.sum(axis=0)).any(axis=1)  # [C]
        gives[self.visits.cells] = True
        cells = np.flatnonzero(gives)
        worth = np.exp2(log_masses + log_weights[self.visits.windows]) > THIN  # [V]
        visitors = np.zeros(len(counts), np.int64)
        visitors[self.visits.cells] = np.add.reduceat(worth, self.visits.starts[:-1]) if len(worth) else 0
        starts = np.concatenate([[0], np.cumsum(visitors[cells])])
        visits = Visits(cells, starts, self.visits.windows[worth])
        windows = self.windows._replace(constants=self.windows.constants + log_weights + log_factors)
        votes, backend = self.lists.add_votes(visits, windows, even, self.images)
        return Sums(votes.T, backend)
