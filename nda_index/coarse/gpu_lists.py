"""Inverted lists that stay on a device: the members of the first cells, as many as a budget of bytes holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.coarse.cells import Cells, Segment
from nda_index.exact.gpu_launch import to_device

ID_BYTES = 4
LARGEST = (1 << 31) - (1 << 16)  # members: kernels count them in int32, to the end of a last step
COPIED = 1 << 22  # members that are copied at a time


@dataclass(frozen=True)
class ResidentLists:
    """Members on a device, those of a cell side by side whatever segments they came from, and what all cells are like.

    Attributes:
        kept: the cells below this number are here.
        offsets: int64 [kept + 1] on the CPU, where each cell's members start.
        codes: uint8 [T, bytes of a member].
        image_ids: int32 [T]. A damaged file may name images that are not there.
        codebook: float32 [2, d] or [256, d], as in `Cells`.
        centroids: float32 [C, d].
        counts: float32 [C], the members of each cell, of all segments and shards.
        means, spreads: float32 [C, d], of these members.
    """

    kept: int
    offsets: NDArray[np.int64]
    codes: Tensor
    image_ids: Tensor
    codebook: Tensor
    centroids: Tensor
    counts: Tensor
    means: Tensor
    spreads: Tensor

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.codes.device


def count_bytes(cells: Cells) -> int:
    """Return the bytes that the members of some lists take."""
    return sum(segment.codes.nbytes + segment.image_ids.nbytes for segment in cells.segments)


def make_resident(cells: Cells, device: torch.device, budget: int) -> ResidentLists:
    """Copy members to a device.

    Args:
        cells: the lists, in memory or mapped from files.
        device: where they go.
        budget: bytes that members may take there; for a moment 200 MiB more are taken. The cells that do not fit stay
            on the CPU, which scans them in a multiple of the time.
    """
    segments, census = cells.segments, cells.census
    width = segments[0].codes.shape[1] if segments else 0
    ends = np.zeros(len(cells.centroids) + 1, np.int64)  # [C + 1]
    for segment in segments:
        ends += segment.offsets
    room = min(budget // (width + ID_BYTES), LARGEST)
    kept = int(np.searchsorted(ends, room, side="right")) - 1
    offsets = ends[: kept + 1]
    codes = torch.empty(int(offsets[-1]), width, dtype=torch.uint8, device=device)
    image_ids = torch.empty(int(offsets[-1]), dtype=torch.int32, device=device)
    before = np.zeros(kept, np.int64)  # members of each cell that earlier segments have
    for segment in segments:
        _copy_segment(segment, kept, offsets[:-1] + before, codes, image_ids)
        before += np.diff(segment.offsets[: kept + 1])
    moments: list[NDArray[Any]] = [census.counts, census.means, census.variances, cells.centroids, cells.codebook]
    counts, means, spreads, centroids, codebook = (to_device(part.astype(np.float32), device) for part in moments)
    return ResidentLists(kept, offsets, codes, image_ids, codebook, centroids, counts, means, spreads)


def _copy_segment(segment: Segment, kept: int, begins: NDArray[np.int64], codes: Tensor, image_ids: Tensor) -> None:
    """Copy a segment's members of the first `kept` cells to where `begins` [kept] says that each cell's go."""
    device = codes.device
    starts = to_device(segment.offsets[:kept], device)  # [kept]
    moves = to_device(begins - segment.offsets[:kept], device)  # [kept]
    for first in range(0, int(segment.offsets[kept]), COPIED):
        last = min(first + COPIED, int(segment.offsets[kept]))
        place = torch.arange(first, last, device=device)  # [n]
        # Of cells that begin at the same place all but the last are empty.
        place += moves[torch.searchsorted(starts, place, right=True) - 1]  # [n]
        codes[place] = to_device(segment.codes[first:last], device)
        image_ids[place] = to_device(segment.image_ids[first:last], device)


def share_budget(budget: int, needed: Sequence[int]) -> list[int]:
    """Share out bytes among lists in proportion to what they need.

    Example:
        >>> share_budget(100, [150, 50]), share_budget(100, [0, 50]), share_budget(100, [0])
        ([75, 25], [0, 100], [0])
    """
    return [budget * need // max(sum(needed), 1) for need in needed]
