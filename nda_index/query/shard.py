"""A part of a collection that lies together: its images, their inverted lists, and the device that scores them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.coarse.cells import Census
from nda_index.coarse.cpu_lists import CpuLists
from nda_index.coarse.gpu import place_lists
from nda_index.coarse.lists import InvertedLists
from nda_index.coarse.storage import open_coarse
from nda_index.device import DeviceFacts
from nda_index.exact import gpu
from nda_index.exact.resident import ResidentPixels
from nda_index.images import to_float
from nda_index.pictures.catalogue import Catalogue, open_catalogue
from nda_index.query.timing import StageTimer
from nda_index.store.corpus import PICTURE, Corpus
from nda_index.store.manifest import Manifest, read_manifest
from nda_index.store.readers import ReadLease
from nda_index.store.tombstones import read_removed

LOG = logging.getLogger(__name__)
BLOCK = 1024  # images that are read and scored at a time: 12 MiB of floats at 32 x 32
BACKENDS_BY_DEVICE = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}
RESIDENT_BYTES = 8 << 30  # of a GPU's memory for pixels that are kept between questions; a quarter if less is free
HOST_BYTES = 4 << 30  # of the host's memory for those that do not fit there; it is taken as they are read
LIST_BYTES: int | None = None  # of a GPU's memory for inverted lists; None: half of what is free at the first question


class Shard:
    """An index's folder, open for questions.

    Attributes:
        manifest: of the index, as it was when it was opened.
        corpus: its images.
        scales: its scales.
        coarse: the inverted lists of each scale, as they lie on disk.
        present: bool [N], False for images that were removed.
        backend: what computes the exact stage.
    """

    def __init__(self, folder: Path, device: str) -> None:
        """Open an index's folder; `open_index` has the errors."""
        self._lease, self.manifest = _lease_manifest(folder)
        self.scales = self.manifest.config.scales
        self.corpus = Corpus(folder, self.manifest.config.shape, self.manifest.table)
        self.coarse = open_coarse(folder, self.manifest)
        self.present = np.ones(self.corpus.count, np.bool_)
        self.present[read_removed(folder, self.manifest)] = False
        self.backend = BACKENDS_BY_DEVICE[device]
        self._folder, self._opening = folder, Lock()
        self._catalogue: Catalogue | None = None
        self._lists: tuple[InvertedLists, ...] | None = None
        self._windows_on_host = False
        self._resident = (
            ResidentPixels(
                self.corpus.pixels,
                self.corpus.count,
                self.corpus.shape,
                gpu.DEVICE,
                pixel_budget(gpu.DEVICE),
                HOST_BYTES,
                torch.float16 if self.manifest.config.latents else torch.uint8,
            )
            if device != "cpu" and gpu.available()
            else None
        )

    @property
    def lists(self) -> tuple[InvertedLists, ...]:
        """The inverted lists of each scale, ready for questions; where there is a GPU, the first call copies them."""
        with self._opening:
            if self._lists is None:
                self._lists = tuple(CpuLists(cells) for cells in self.coarse)
                if self.on_gpu:
                    self._lists = self._place_lists(self._lists)
            return self._lists

    def _place_lists(self, lists: tuple[InvertedLists, ...]) -> tuple[InvertedLists, ...]:
        try:
            return place_lists(lists, torch.device(gpu.DEVICE), LIST_BYTES)
        except Exception as error:
            if not gpu.has_failed(error):
                raise
            LOG.warning("the GPU failed, and inverted lists stay on the CPU: %s", error)
            return lists

    @property
    def catalogue(self) -> Catalogue | None:
        """The windows of its pictures, read at the first call; None where the index has none."""
        with self._opening:
            if self._catalogue is None and self.manifest.config.pictures:
                self._catalogue = open_catalogue(
                    self._folder, list(self.manifest.files), self.corpus, self.present,
                    gpu.DEVICE if self.on_gpu and not self._windows_on_host else None,
                )  # fmt: skip
            return self._catalogue

    def take_windows_off_gpu(self) -> None:
        """Read the catalogue again for the CPU at its next use: what a failed GPU holds is lost."""
        with self._opening:
            self._catalogue, self._windows_on_host = None, True

    @property
    def shows_pictures(self) -> bool:
        """Whether pictures lie beside its latents."""
        return self.manifest.config.latents and PICTURE in self.corpus.schema.names

    @property
    def on_gpu(self) -> bool:
        """Whether questions are answered on a GPU."""
        return self._resident is not None

    def leave_gpu(self, error: Exception) -> None:
        """Answer further questions on the CPU after an error of the GPU; raise any other error.

        A GPU that has failed fails again in this process, so nothing returns to it. One that has too little memory at
        the moment does not.
        """
        if not gpu.has_failed(error):
            raise error
        if isinstance(error, torch.cuda.OutOfMemoryError):
            LOG.warning("the GPU has too little memory for a question, which the CPU answers: %s", error)
            return
        with self._opening:
            if self._resident is not None:
                LOG.warning("the GPU failed, and questions go on on the CPU: %s", error)
            self._resident, self._lists, self.backend = None, None, "cpu"

    def close(self) -> None:
        """Let its files be erased."""
        self._lease.release()

    def census(self) -> list[Census]:
        """Count the members of each cell of each scale, with their moments."""
        return [cells.census for cells in self.coarse]

    def join(self, census: Sequence[Census]) -> None:
        """Be one of several shards, which have this census together: cells are chosen as if all lay here."""
        self.coarse = tuple(
            replace(cells, joint_census=whole) for cells, whole in zip(self.coarse, census, strict=True)
        )
        self._lists = None

    def allow(self, where: str | None) -> NDArray[np.bool_]:
        """Tell which images are present and fulfil an SQL condition, bool [N]."""
        if where is None:
            return self.present
        return self.present & mask_of(self.corpus.matching(where), len(self.present))

    def rows(self, image_ids: NDArray[np.int64]) -> pa.Table:
        """Read the key and the metadata of images, as a table whose first column is "key"."""
        keys, metadata = self.corpus.rows(image_ids)
        return metadata.add_column(0, "key", pa.array(keys, pa.string()))

    def pixels(self, image_ids: NDArray[np.int64], *, on_gpu: bool) -> NDArray[np.float32] | Tensor:
        """Read images [n, C, H, W] where they are scored: bytes on a GPU, floats in [-1, 1] on the CPU."""
        resident = self._resident if on_gpu else None  # another thread may leave the GPU
        return to_float(self.corpus.pixels(image_ids)) if resident is None else resident.take(image_ids)

    def blocks(
        self, image_ids: NDArray[np.int64], timer: StageTimer, *, on_gpu: bool
    ) -> Callable[[], Iterator[NDArray[np.float32] | Tensor]]:
        """Return a function that reads images in blocks [n, C, H, W] where they are scored, as `pixels` does."""

        def read() -> Iterator[NDArray[np.float32] | Tensor]:
            for start in range(0, len(image_ids), BLOCK):
                some = image_ids[start : start + BLOCK]
                with timer.stage("fetch"):
                    pixels = self.pixels(some, on_gpu=on_gpu)
                yield pixels

        return read


def _lease_manifest(folder: Path) -> tuple[ReadLease, Manifest]:
    """Read a manifest whose files are kept as long as the lease is held."""
    while True:
        lease = ReadLease(folder)
        manifest = read_manifest(folder)
        if lease.cover(manifest.index_hash):
            return lease, manifest
        lease.release()


def mask_of(image_ids: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Return a mask, bool [count], that is True at some ids.

    Example:
        >>> mask_of(np.array([1]), 3).tolist()
        [False, True, False]
    """
    mask = np.zeros(count, np.bool_)
    mask[image_ids] = True
    return mask


def pixel_budget(device: str) -> int:
    """Return how many bytes of a device pixels may take."""
    return min(RESIDENT_BYTES, gpu.free_bytes(device) // 4)


def count_resident(manifest: Manifest, device: DeviceFacts) -> int:
    """Return how many images of an index stay on a device between questions: 0 on the CPU."""
    config = manifest.config
    image_bytes = prod(config.shape) * (2 if config.latents else 1)
    return min(manifest.counts["images"], pixel_budget(gpu.DEVICE) // image_bytes) if device.device == "cuda" else 0
