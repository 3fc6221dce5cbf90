"""What inverted lists compute for questions, wherever they lie: in this machine's memory, or on a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.cells import Cells
from nda_index.coarse.visits import GroupedWindows, Visits, Windows


class Rules(NamedTuple):
    """By what a window's cells are chosen.

    Attributes:
        probes: cells that a window visits at most.
        unvisited: part of a window's mass that may be left in cells that are neither visited nor flat.
        flat: standard deviation of the members' logits, in nats, up to which a cell is flat.
        far: cells whose mass is below 2^-far of the best one's are not looked at.
    """

    probes: int
    unvisited: float
    flat: float
    far: float


@dataclass(frozen=True)
class Images:
    """Which images take part: their number N, and bool [N]; None: all."""

    count: int
    allowed: NDArray[np.bool_] | None


class Sums(NamedTuple):
    """Sums, float64, and what computed them: "cpu", "gpu" or "gpu and cpu"."""

    values: NDArray[np.float64]
    backend: str


class Choice(Protocol):
    """The cells that one query visits.

    Attributes:
        cells: int64 [W, probes], best first, -1 after the last one.
        flat_total: float64 [W], logarithm (base 2) of the mass of the flat cells.
        backend: what chose them.
    """

    @property
    def cells(self) -> NDArray[np.int64]: ...

    @property
    def flat_total(self) -> NDArray[np.float64]: ...

    @property
    def backend(self) -> str: ...

    def sum_flat(self, log_weights: NDArray[np.float64]) -> Sums:
        """Sum the weight of one member of each cell over the windows for which the cell is flat: [C].

        Args:
            log_weights: float64 [W], logarithm (base 2) of a window's weight over its normaliser.
        """


class InvertedLists(Protocol):
    """The inverted lists of one scale, ready to be scanned.

    Attributes:
        cells: what they are.
    """

    @property
    def cells(self) -> Cells: ...

    def choose(self, windows: GroupedWindows, units: NDArray[np.float32], rules: Rules) -> Choice:
        """Weigh all cells for a query's windows, and choose those that each visits.

        Args:
            windows: in `units`.
            units: float32 [d], what the coordinates are multiplied with.
            rules: of the choice.
        """

    def sum_visits(self, visits: Visits, windows: Windows, images: Images) -> Sums:
        """Sum what a cell's members weigh for the window that visits it: log masses (base 2) of the visits, [V]."""

    def add_votes(self, visits: Visits, windows: Windows, even: NDArray[np.float32], images: Images) -> Sums:
        """Add up the members' weights for each image and row, [N, R], and even[c, r] for each member of a cell.

        Args:
            visits: of cells that give votes, by visits or evenly. A cell may have no visitors.
            windows: their constants hold the normalisers.
            even: float32 [C, R].
            images: that take part.
        """


def join_backends(backends: Iterable[str]) -> str:
    """Say what computed several things together.

    Example:
        >>> join_backends(["gpu", "gpu and cpu", "cpu"]), join_backends(["cpu", "cpu"]), join_backends([])
        ('gpu and cpu', 'cpu', '')
    """
    used = {name for backend in backends for name in backend.split(" and ")} - {""}
    return " and ".join(sorted(used, reverse=True))
