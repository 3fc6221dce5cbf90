"""Which windows visit which cells, and what a member's coordinates are multiplied with for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Visits(NamedTuple):
    """Which windows visit which cells: cells[a] is visited by windows[starts[a] : starts[a + 1]].

    Attributes:
        cells: int64 [A], ascending.
        starts: int64 [A + 1].
        windows: int64 [V], for each cell by ascending row.
    """

    cells: NDArray[np.int64]
    starts: NDArray[np.int64]
    windows: NDArray[np.int64]

    def split(self, first: int) -> tuple[Visits, Visits]:
        """Return the visits to cells below `first`, and those to the others.

        Example:
            >>> below, others = Visits(np.array([2, 7]), np.array([0, 1, 3]), np.array([5, 5, 6])).split(3)
            >>> below.windows.tolist(), others.starts.tolist()
            ([5], [0, 2])
        """
        at = int(np.searchsorted(self.cells, first))
        begin = self.starts[at]
        return (
            Visits(self.cells[:at], self.starts[: at + 1], self.windows[:begin]),
            Visits(self.cells[at:], self.starts[at:] - begin, self.windows[begin:]),
        )


class Windows(NamedTuple):
    """The windows of one or several queries: a logit is constant + <row, vector>.

    A member's row has its coordinates, that before the overhang (the norm of the rest) times `REST_ALIKE`, and two
    squared norms: without the last two coordinates, the overhang, and of these.

    Attributes:
        vectors: float32 [W, d + 2].
        constants: float64 [W]; float32 where the loops on the CPU take them.
        rows: int64 [W], the row of votes that each window adds to; ascending.
    """

    vectors: NDArray[np.float32]
    constants: NDArray[np.float64] | NDArray[np.float32]
    rows: NDArray[np.int64]


class GroupedWindows(NamedTuple):
    """A query's windows, ordered by variance, in groups that share one.

    Attributes:
        vectors: float32 [W, d].
        groups: int64 [G + 1], where each group starts, and the end.
        variances: float32 [G].
    """

    vectors: NDArray[np.float32]
    groups: NDArray[np.int64]
    variances: NDArray[np.float32]


def sort_by_cell(chosen: NDArray[np.int64]) -> Visits:
    """Return the visits to each cell, from the cells that each window visits, int64 [W, probes], -1 after the last.

    Example:
        >>> visits = sort_by_cell(np.array([[4, 2], [2, -1]]))
        >>> visits.cells.tolist(), visits.starts.tolist(), visits.windows.tolist()
        ([2, 4], [0, 2, 3], [0, 1, 0])
    """
    windows, _ = np.nonzero(chosen >= 0)
    cells = chosen[chosen >= 0]
    order = np.argsort(cells, kind="stable")
    visited, starts = np.unique(cells[order], return_index=True)
    return Visits(visited, np.append(starts, len(cells)), windows[order])
