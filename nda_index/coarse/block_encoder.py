"""Patches of images encoded on a device, block by block; what is done lies in the machine's memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nda_index.coarse.assignment import Assigner, assign
from nda_index.coarse.blocks import BlockRunner
from nda_index.coarse.cells import Segment
from nda_index.coarse.coding import code_images, count_parts, group_members
from nda_index.coarse.embedding import Embedding
from nda_index.coarse.storage import write_segment
from nda_index.device import CPU
from nda_index.images import Pixels

Coded = tuple["NDArray[np.int32]", "NDArray[np.uint8]"]  # cells [n, P] and codes [n P, bytes]


class ImageEncoder(Protocol):
    """What takes images, and writes their encoded patches as segments."""

    @property
    def code_size(self) -> int:
        """Bytes of a coded patch."""

    def add_images(self, images: Pixels, image_ids: NDArray[np.int64]) -> None:
        """Encode the patches of images, uint8 or float16 [n, C, H, W]."""

    def write(self, path: Path) -> None:
        """Write what was encoded as one segment, and start over."""


class BlockEncoder:
    """Encodes the patches of images on a device: the segments that FAISS's encoder makes, but for rounding."""

    def __init__(
        self,
        embedding: Embedding,
        stride: int,
        centroids: NDArray[np.float32],
        codebook: NDArray[np.float32],
        runner: BlockRunner,
        assigner: Assigner = assign,
    ) -> None:
        """Take trained cells.

        Args:
            embedding: of the scale.
            stride: every how many pixels a patch is taken.
            centroids, codebook: from `nda_index.coarse.storage.read_quantizer`.
            runner: has the device.
            assigner: finds the cells of patches; on the CPU, where the device fails, it is torch.
        """
        self._embedding, self._stride, self._runner, self._assigner = embedding, stride, runner, assigner
        self._tables = {CPU: (torch.from_numpy(np.array(centroids)), torch.from_numpy(np.array(codebook)))}
        self._coded: list[Coded] = []
        self._image_ids: list[NDArray[np.int32]] = []

    @property
    def code_size(self) -> int:
        """Bytes of a coded patch."""
        return count_parts(self._tables[CPU][1])

    def add_images(self, images: Pixels, image_ids: NDArray[np.int64]) -> None:
        """Encode the patches of images, uint8 or float16 [n, C, H, W]."""
        self._coded += self._runner.run(self._encode, images)
        self._image_ids.append(image_ids.astype(np.int32))

    def write(self, path: Path) -> None:
        """Write what was encoded as one segment, and start over.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        write_segment(path, self.segment())
        self._coded, self._image_ids = [], []

    def segment(self) -> Segment:
        """Return what was encoded, with the moments of each cell; there must be some."""
        cells = torch.from_numpy(np.concatenate([cells for cells, _ in self._coded]))  # [N, P]
        codes = torch.from_numpy(np.concatenate([codes for _, codes in self._coded]))  # [N P, bytes]
        image_ids = torch.from_numpy(np.concatenate(self._image_ids))[:, None].expand(cells.shape)  # [N, P]

        def group(device: torch.device) -> Segment:
            members = cells.flatten().to(device), codes.to(device), image_ids.flatten().to(device)
            return group_members(*members, *self._tables_on(device))

        return self._runner.run_whole(group)

    def _encode(self, images: Pixels, device: torch.device) -> Coded:
        """Find the cells and the codes of the patches of a block of images."""
        centroids, codebook = self._tables_on(device)
        pixels = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(device)  # [n, C, H, W]
        find = self._assigner if device == self._runner.device else assign
        cells, codes = code_images(pixels, self._embedding, self._stride, centroids, codebook, find)
        return cells.cpu().numpy(), codes.cpu().numpy()

    def _tables_on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if device not in self._tables:
            centroids, codebook = self._tables[CPU]
            self._tables[device] = centroids.to(device), codebook.to(device)
        return self._tables[device]
