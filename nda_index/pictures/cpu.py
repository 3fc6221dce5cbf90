"""Windows of photographs on the CPU, in inverted lists of FAISS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.neighbours import NeighbourLists
from nda_index.pictures.lists import Codes


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
