"""What finds the nearest windows of a collection: FAISS on the CPU, or torch on a device (`nda_index.pictures.gpu`)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.neighbours import NeighbourLists

Codes = NDArray[np.uint8]


class WindowLists(Protocol):
    """The codes of all windows of one kind, in cells, to be searched.

    Attributes:
        count: number of windows.
    """

    count: int

    def search(
        self, codes: Codes, neighbours: int, probes: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest windows, of one question or of several.

        Args:
            codes: uint8 [q, d].
            neighbours: how many of each.
            probes: cells that are looked at.
            allowed: bool [N], the pictures whose windows may be found; all by default.

        Returns:
            Squared distances float32 [q, neighbours], ascending, and numbers of the windows int64; infinity and -1
            where there are no more.
        """


class HostLists:
    """Windows in inverted lists of FAISS; `WindowLists` has the attributes."""

    def __init__(
        self, codes: Codes, cells: NDArray[np.int32], centroids: NDArray[np.float32], owners: NDArray[np.int32]
    ) -> None:
        """Put codes uint8 [n, d] of pictures int32 [n] into cells int32 [n]; the centroids are float32 [C, d]."""
        self._lists, self._owners = NeighbourLists(codes, cells, centroids), owners
        self.count = self._lists.count

    def search(
        self, codes: Codes, neighbours: int, probes: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest windows; arguments and result of `WindowLists.search`."""
        return self._lists.search(codes, neighbours, probes, None if allowed is None else allowed[self._owners])
