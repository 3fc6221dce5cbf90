"""Pixels that stay on a device between questions, so that a second question does not wait for the disk or the bus."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.images import Pixels


class ResidentPixels:
    """The first images of a collection, kept on a device once they have been read, up to a number of bytes.

    Args:
        read: gives the pixels of image ids, uint8 or float16 [n, C, H, W].
        count: number of images in the collection.
        shape: (C, H, W) of an image.
        device: where the pixels stay, as torch names it.
        budget: bytes they may take there. Images beyond it are read every time, so less costs time.
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
        dtype: torch.dtype = torch.uint8,
    ) -> None:
        self._read = read
        room = min(count, budget // (prod(shape) * dtype.itemsize))
        self._kept = torch.empty(room, *shape, dtype=dtype, device=device)  # [room, C, H, W]
        self._known = np.zeros(room, np.bool_)

    def take(self, ids: NDArray[np.int64]) -> Tensor:
        """Return pixels of images, [n, C, H, W] on the device, in the order of `ids`."""
        room = len(self._known)
        fits = ids < room
        missing = np.unique(ids[fits][~self._known[ids[fits]]])
        if len(missing):
            self._kept[torch.from_numpy(missing).to(self._kept.device)] = self._fetch(missing)
            self._known[missing] = True
        taken = torch.empty(
            len(ids), *self._kept.shape[1:], dtype=self._kept.dtype, device=self._kept.device
        )  # [n, C, H, W]
        place = torch.from_numpy(fits).to(taken.device)  # [n]
        taken[place] = self._kept[torch.from_numpy(ids[fits]).to(taken.device)]
        if not fits.all():
            taken[~place] = self._fetch(ids[~fits])
        return taken

    def _fetch(self, ids: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._read(ids))).to(self._kept.device)  # [n, C, H, W]
