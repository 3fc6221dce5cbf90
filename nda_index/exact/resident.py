"""Pixels that stay near a device between questions, so that a second question does not wait for the disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.images import Pixels


@dataclass(frozen=True)
class _Tier:
    """Some images in a row that stay in one memory once they have been read.

    Attributes:
        first: id of the first one.
        kept: [room, C, H, W].
        known: bool [room], which have been read.
    """

    first: int
    kept: Tensor
    known: NDArray[np.bool_]

    def holds(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which images have their place here."""
        return (ids >= self.first) & (ids < self.first + len(self.known))


class ResidentPixels:
    """Images of a collection: the first ones stay on a device, the next in the host's memory, the rest are read.

    What goes from the host to a GPU is gathered in pinned memory, which is copied at the rate of the bus. The rest of
    the host's memory is the system's to page: pinning all of it would take seconds, and other programs' memory.

    Args:
        read: gives the pixels of image ids, uint8 or float16 [n, C, H, W].
        count: number of images in the collection.
        shape: (C, H, W) of an image.
        device: where the pixels are wanted, as torch names it.
        budget: bytes they may take there. Images beyond it are copied every time, so less costs time.
        host_budget: bytes they may take in the host's memory. Images beyond it too are read every time.
        dtype: of the pixels.

    Example:
        >>> collection = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
        >>> pixels = ResidentPixels(lambda ids: collection[ids], 2, (3, 2, 2), "cpu", 1 << 20)
        >>> pixels.take(np.array([1])).shape
        torch.Size([1, 3, 2, 2])
    """

    def __init__(
        self,
        read: Callable[[NDArray[np.int64]], Pixels],
        count: int,
        shape: tuple[int, int, int],
        device: str,
        budget: int,
        host_budget: int = 0,
        dtype: torch.dtype = torch.uint8,
    ) -> None:
        self._read, self._device = read, torch.device(device)
        size = prod(shape) * dtype.itemsize
        near = min(count, budget // size)
        kept = torch.empty(near, *shape, dtype=dtype, device=device)  # [near, C, H, W]
        self._tiers = [_Tier(0, kept, np.zeros(near, np.bool_))]
        far = min(count - near, host_budget // size)
        if far:
            here = torch.empty(far, *shape, dtype=dtype)  # [far, C, H, W]; takes memory as it is written to
            self._tiers.append(_Tier(near, here, np.zeros(far, np.bool_)))

    def take(self, ids: NDArray[np.int64]) -> Tensor:
        """Return pixels of images, [n, C, H, W] on the device, in the order of `ids`."""
        like = self._tiers[0].kept
        taken = torch.empty(len(ids), *like.shape[1:], dtype=like.dtype, device=self._device)  # [n, C, H, W]
        left = np.ones(len(ids), np.bool_)
        for tier in self._tiers:
            mine = tier.holds(ids)
            places = ids[mine] - tier.first
            missing = np.unique(places[~tier.known[places]])
            if len(missing):
                tier.kept[self._index(missing, tier.kept)] = self._fetch(missing + tier.first).to(tier.kept.device)
                tier.known[missing] = True
            if len(places):
                taken[self._index(np.flatnonzero(mine), taken)] = self._gather(tier.kept, places)
            left &= ~mine
        if left.any():
            taken[self._index(np.flatnonzero(left), taken)] = self._fetch(ids[left]).to(self._device)
        return taken

    def _gather(self, kept: Tensor, places: NDArray[np.int64]) -> Tensor:
        chosen = self._index(places, kept)
        if kept.device.type == self._device.type:
            return kept[chosen]  # [n, C, H, W]
        pinned = torch.empty(len(places), *kept.shape[1:], dtype=kept.dtype, pin_memory=True)  # [n, C, H, W]
        return torch.index_select(kept, 0, chosen, out=pinned).to(self._device, non_blocking=True)  # [n, C, H, W]

    def _fetch(self, ids: NDArray[np.int64]) -> Tensor:
        pixels = np.require(self._read(ids), requirements=["C", "W"])  # torch warns of what cannot be written to
        return torch.from_numpy(pixels)  # [n, C, H, W]

    def _index(self, places: NDArray[np.int64], tensor: Tensor) -> Tensor:
        return torch.from_numpy(places).to(tensor.device)
