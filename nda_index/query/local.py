"""Shards in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from nda_index.answer.region import FoundRegions
from nda_index.coarse.cells import merge_census
from nda_index.exact import gpu
from nda_index.images import Pixels
from nda_index.pictures.search import crop_sources, find_regions, find_regions_together
from nda_index.progress import Progress, quiet
from nda_index.query.protocol import Floats, ShardQuestion, ShardSession
from nda_index.query.session import LocalSession
from nda_index.query.shard import Shard

LOG = logging.getLogger(__name__)
Result = TypeVar("Result")
PICTURES_TOGETHER = 8  # whose windows a GPU looks for in one search: it waits less, and reads a cell once for all


class LocalShards:
    """Shards that share this process's cores; `nda_index.query.protocol.Shards` has the attributes."""

    partial = False

    def __init__(self, shards: Sequence[Shard]) -> None:
        """Put shards together, in the order of their images' ids."""
        self._shards = list(shards)
        self.present = [shard.present for shard in shards]
        self.metadata_schema = shards[0].corpus.metadata_schema
        self.concurrent = not any(shard.on_gpu for shard in shards)  # one question may fill a GPU's memory
        self.pictures_together = 1 if self.concurrent else PICTURES_TOGETHER
        if len(shards) > 1:
            census = [merge_census(parts) for parts in zip(*(shard.census() for shard in shards), strict=True)]
            for shard in shards:
                shard.join(census)

    @property
    def backend(self) -> str:
        """What computes maps: no longer the GPU once a shard has left it."""
        return "cpu" if any(shard.backend == "cpu" for shard in self._shards) else self._shards[0].backend

    def sessions(self, question: ShardQuestion) -> list[ShardSession | None]:
        """Begin a session on every shard."""
        return [LocalSession(shard, question) for shard in self._shards]

    def together(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Make calls one after another: each takes all cores."""
        return [call() for call in calls]

    def pixels(self, shard: int, image_ids: NDArray[np.int64]) -> Pixels:
        """Read the pixels of a shard's images, uint8 [n, C, H, W]."""
        return self._shards[shard].corpus.pixels(image_ids)

    def rows(self, shard: int, image_ids: NDArray[np.int64]) -> pa.Table:
        """Read the key and the metadata of a shard's images."""
        return self._shards[shard].rows(image_ids)

    def with_keys(self, shard: int, keys: Sequence[str]) -> NDArray[np.int64]:
        """Find the images of a shard that have one of these keys: ids there, ascending."""
        return self._shards[shard].corpus.with_keys(keys)

    def regions(
        self, pictures: Sequence[Image.Image], where: str | None, null: Floats, report: Progress = quiet
    ) -> list[FoundRegions]:
        """Find the regions of pictures that indexed pictures explain; none where the index has no pictures."""
        try:
            return self._find_regions(pictures, where, null, report)
        except Exception as error:
            if not gpu.has_failed(error):
                raise
            LOG.warning("the GPU failed, and regions are looked for on the CPU: %s", error)
        for shard in self._shards:
            shard.take_windows_off_gpu()
        return self._find_regions(pictures, where, null, report)

    def _find_regions(
        self, pictures: Sequence[Image.Image], where: str | None, null: Floats, report: Progress
    ) -> list[FoundRegions]:
        catalogues = [catalogue for shard in self._shards if (catalogue := shard.catalogue) is not None]
        if len(catalogues) < len(self._shards):
            return [FoundRegions()] * len(pictures)
        allowed = None if where is None else [shard.allow(where) for shard in self._shards]
        if len(pictures) == 1:
            found = [find_regions(catalogues, pictures[0], null, self._name, allowed, report)]
        else:
            threads = min(len(pictures), numba.get_num_threads())
            found = find_regions_together(catalogues, pictures, null, self._name, allowed, report, threads)
        return [FoundRegions(regions, crop_sources(catalogues, regions)) for regions in found]

    def _name(self, image_ids: Sequence[int]) -> list[str]:
        """Return the keys of images, in the order of their ids."""
        offsets = np.cumsum([0, *(len(part) for part in self.present)])
        shards = np.searchsorted(offsets, image_ids, side="right") - 1
        return [
            self._shards[shard].corpus.rows(np.array([image_id - offsets[shard]]))[0][0]
            for shard, image_id in zip(shards, image_ids, strict=True)
        ]

    def lost(self) -> frozenset[int]:
        """Return no shard: they are here."""
        return frozenset()

    def close(self) -> None:
        """Let the files be erased: no question follows."""
        for shard in self._shards:
            shard.close()
