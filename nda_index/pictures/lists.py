"""What finds the nearest windows of a collection, on the CPU (`nda_index.pictures.cpu`) or a device (`.gpu`)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
