"""Windows of photographs on a device: they stay there within a budget of bytes, and what is beyond streams through.

The cells are those of the index, so a question looks at the same windows as on the CPU, and finds the same but for ties
(docs/pictures.md). Where the device's memory does not suffice, a search goes on in smaller steps, then on the CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.exact.gpu import free_bytes
from nda_index.pictures.gpu_nearest import (
    CENTRE,
    TILE,
    Block,
    Visits,
    choose_cells,
    make_block,
    merge_ranks,
    rank_nearest,
    split_ranks,
)
from nda_index.pictures.lists import Codes, WindowLists

LOG = logging.getLogger(__name__)

WORK = 1 << 30  # bytes of a device that a search takes beside the windows
LEAST = 1 << 24  # bytes below which a search does not shrink
_SHRINK = 4  # by which its bytes are divided where they do not suffice

Spare = Callable[[Codes, NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]], WindowLists]


def usable_bytes(device: str) -> int:
    """Return how many bytes of a device windows may take: two thirds of what is free; no limit on the CPU."""
    return free_bytes(device) * 2 // 3


class DeviceLists:
    """Windows in cells on a device; `WindowLists` has the attributes.

    Args:
        codes: uint8 [n, d].
        cells: int32 [n], of each code.
        centroids: float32 [C, d].
        owners: int32 [n], the picture of each code.
        device: as torch names it.
        spare: makes lists on the CPU of the arguments before, where the device's memory does not suffice.
        resident: bytes that stay on the device; windows beyond them are copied there for each search that needs them.
        work: bytes that a search may take beside them, about.
    """

    def __init__(
        self, codes: Codes, cells: NDArray[np.int32], centroids: NDArray[np.float32], owners: NDArray[np.int32], *,
        device: str, spare: Spare, resident: int, work: int = WORK,
    ) -> None:  # fmt: skip
        self.count, self._device, self._work, self._make_spare = len(codes), device, work, spare
        self._spare: WindowLists | None = None
        self._opening = Lock()
        self._centroids = centroids
        sizes = np.bincount(cells, minlength=len(centroids))  # [C]
        self._ranges = np.concatenate([[0], np.cumsum(-(-sizes // TILE))])  # [C + 1], in tiles
        self._middles = torch.tensor(centroids, device=device).double() - CENTRE  # [C, d]
        self._bounds = torch.tensor(self._ranges, device=device)  # [C + 1]
        self._numbers = np.full(self._ranges[-1] * TILE, -1, np.int32 if len(codes) < 1 << 31 else np.int64)
        order = np.argsort(cells, kind="stable")
        ordered = cells[order]  # [n]
        # Codes of a cell begin at a tile, and what is left of the last one belongs to no picture.
        shifts = self._ranges[:-1] * TILE - (np.cumsum(sizes) - sizes)  # [C]
        self._numbers[np.arange(len(codes)) + shifts[ordered]] = order
        self._tiles = torch.from_numpy(codes[self._numbers]).view(-1, TILE, codes.shape[1])
        self._owners = torch.from_numpy(np.where(self._numbers >= 0, owners[self._numbers], -1)).view(-1, TILE)
        self._resident = self._keep(resident)

    def search(
        self, codes: Codes, neighbours: int, probes: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest windows; arguments and result of `WindowLists.search`."""
        work = self._work
        while True:
            with suppress(torch.OutOfMemoryError):
                return self._search(codes, neighbours, probes, allowed, work)
            work //= _SHRINK
            self._release()
            if work < LEAST:
                LOG.warning(
                    "the memory of %s does not suffice for regions; they are looked for on the CPU", self._device
                )
                return self._on_host().search(codes, neighbours, probes, allowed)
            LOG.info("the memory of %s does not suffice; regions take %d MiB at a time", self._device, work >> 20)

    def cell_places(self) -> NDArray[np.int64]:
        """Return how many codes each cell is compared as, with what fills its last tile: int64 [C]."""
        return np.asarray(np.diff(self._ranges) * TILE, np.int64)

    def _search(
        self, codes: Codes, neighbours: int, probes: int, allowed: NDArray[np.bool_] | None, work: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if min(len(codes), self.count) == 0:
            return np.full((len(codes), neighbours), np.inf, np.float32), np.full((len(codes), neighbours), -1)
        device = self._device
        queries = torch.tensor(codes, device=device).float() - CENTRE  # [q, d]
        cells = choose_cells(queries.double(), self._middles, min(probes, len(self._middles)), work)  # [q, p]
        # Queries of near cells follow one another, so that they share tiles where they are compared some at a time.
        order = cells[:, 0].argsort(stable=True)  # [q]
        queries, cells = queries[order], cells[order]
        may = None
        if allowed is not None:
            may = torch.from_numpy(np.append(allowed, False)).to(device)  # [N + 1]
        parts = []
        for block in self._blocks(work):
            bounds = (self._bounds - block.first).clamp(0, len(block.codes))  # [C + 1]
            begin = bounds[cells]  # [q, p]
            visits = Visits(queries, begin, bounds[cells + 1] - begin)
            parts.append(rank_nearest(block, visits, neighbours, may, work))
        ranks = torch.empty_like(merged := merge_ranks(parts, neighbours))  # [q, neighbours]
        ranks[order] = merged
        keys, places = (part.cpu().numpy() for part in split_ranks(ranks))
        squares = ((codes.astype(np.int64) - CENTRE) ** 2).sum(axis=1)  # [q]
        distances = np.where(places >= 0, keys + squares[:, None], np.inf).astype(np.float32)
        return distances, np.where(places >= 0, self._numbers[places], -1).astype(np.int64)

    def _blocks(self, work: int) -> Iterator[Block]:
        """Yield the tiles that stay on the device, and the others as they are copied there."""
        if len(self._resident.codes):
            yield self._resident
        step = max(1, work // (4 * self._tile_bytes()))
        for start in range(0, len(self._tiles), step):
            some = slice(start, start + step)
            yield self._make_block(self._tiles[some], self._owners[some], len(self._resident.codes) + start)

    def _keep(self, resident: int) -> Block:
        """Move the first tiles to the device, as many as fit."""
        while True:
            fitting = min(len(self._tiles), resident // self._tile_bytes())
            with suppress(torch.OutOfMemoryError):
                block = self._make_block(self._tiles[:fitting], self._owners[:fitting], 0)
                break
            resident = fitting * self._tile_bytes() // 2
            self._release()
        # What is on the device is on the host no longer: at a million photographs it is 40 GB.
        self._tiles, self._owners = self._tiles[fitting:].clone(), self._owners[fitting:].clone()
        if len(self._tiles):
            LOG.info("%d of %d tiles of windows stay on %s", fitting, fitting + len(self._tiles), self._device)
        return block

    def _make_block(self, tiles: Tensor, owners: Tensor, first: int) -> Block:
        return make_block(tiles, owners, first, self._device, max(1, self._work // (8 * self._tile_bytes())))

    def _tile_bytes(self) -> int:
        return TILE * (self._tiles.shape[2] + 8)

    def _on_host(self) -> WindowLists:
        """Lists of the same windows on the CPU, which are made once."""
        with self._opening:
            if self._spare is None:
                laid, owned = (
                    torch.cat([kept.cpu(), there]).flatten(0, 1).numpy()
                    for kept, there in ((self._resident.codes, self._tiles), (self._resident.owners, self._owners))
                )
                there = np.flatnonzero(self._numbers >= 0)
                order = there[np.argsort(self._numbers[there])]
                cells = (np.searchsorted(self._ranges, order // TILE, side="right") - 1).astype(np.int32)
                self._spare = self._make_spare(laid[order], cells, self._centroids, owned[order])
            return self._spare

    def _release(self) -> None:
        if torch.device(self._device).type == "cuda":
            torch.cuda.empty_cache()
