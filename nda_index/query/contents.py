"""What an open index holds: its images, their keys and their metadata, looked up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.answer.notebook import show_table
from nda_index.query.conversation import Collection
from nda_index.scales import Scale
from nda_index.store.manifest import Manifest
from nda_index.store.names import check_ids, check_keys, missing_key


class Contents:
    """The images of an index, as it was when it was opened.

    Attributes:
        path: its folder.
        manifest: what it holds.
        scales: its scales.
        shape: (C, H, W) of its images.
    """

    def __init__(self, path: Path, manifest: Manifest, collection: Collection) -> None:
        """Put together by `open_index`."""
        self.path = path
        self.manifest = manifest
        self.scales: tuple[Scale, ...] = manifest.config.scales
        self.shape: tuple[int, int, int] = manifest.config.shape
        self._collection = collection
        self._present = np.concatenate(collection.shards.present)

    def __len__(self) -> int:
        return int(self._present.sum())

    def __repr__(self) -> str:
        kind = "latents" if self.latents else "images"
        return f"<Index {str(self.path)!r}: {len(self):,} {kind} {self.shape}, {len(self.scales)} scales>"

    def _repr_html_(self) -> str:
        """Describe the index in a notebook."""
        columns = ", ".join(f"{field.name} ({field.type})" for field in self.metadata_schema())
        size = " x ".join(map(str, self.shape)) if self.latents else f"{self.shape[1]} x {self.shape[2]} pixels"
        facts = {
            "latents" if self.latents else "images": f"{len(self):,} of {size}",
            "scales": ", ".join(scale.name for scale in self.scales),
            "metadata": columns or "none",
            "verdicts": f"against {self.null_pictures} pictures" if self.null_pictures else "none",
        }
        return show_table(f"Index {self.path}", (), facts.items())

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """Ids of its images, ascending: 0 to N-1 unless some were removed."""
        return np.flatnonzero(self._present)

    @property
    def latents(self) -> bool:
        """Whether it holds latents, and not pictures."""
        return self.manifest.config.latents

    @property
    def null_pictures(self) -> int:
        """Number of unrelated pictures that verdicts are set against; 0: there are no verdicts."""
        return len(self._collection.null.evidence)

    @property
    def concurrent(self) -> bool:
        """Whether several threads may ask questions at a time: not where one may fill the memory of a GPU."""
        return self._collection.shards.concurrent

    @property
    def unreachable(self) -> int:
        """Number of images that cannot be searched, because their shard was lost; 0 on one machine."""
        return self._collection.missing()

    def metadata_schema(self) -> pa.Schema:
        """Return the names and types of the metadata columns, which `where` may name as it may "key"."""
        return self._collection.shards.metadata_schema

    def pixels(self, image_ids: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """Read images as they were indexed.

        Args:
            image_ids: of the images, in any order.

        Returns:
            uint8 [n, C, H, W], in the order of the ids; latents are float16.

        Raises:
            ConfigError: ids are no whole numbers, such as a mask. QueryError: the index has no image of an id.
            CorruptIndexError: the index is damaged.
        """
        return self._collection.pixels(self._known(image_ids))

    def keys(self, image_ids: Sequence[int] | NDArray[np.int64]) -> pa.StringArray:
        """Look up the keys of images, in the order of the ids; arguments and errors as `pixels`.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> index = nda.build_index(images, tempfile.mkdtemp() + "/x.nda", image_size=16, scales=[nda.Scale(5)])
            >>> index.keys([7, 3]).to_pylist()
            ['00000007', '00000003']
        """
        return self._rows(self._known(image_ids))["key"].combine_chunks()

    def metadata(self, image_ids: Sequence[int] | NDArray[np.int64]) -> pa.Table:
        """Look up the metadata of images: a row for each, in the order of the ids; arguments and errors as `pixels`."""
        return self._rows(self._known(image_ids)).drop_columns(["key"])

    def ids(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Look up the images that have keys.

        Args:
            keys: a sequence of texts. Several images may have the same key.

        Returns:
            int64 [n], key by key, and ascending for each. Removed images are left out.

        Raises:
            ConfigError: it is one text. QueryError: no image has one of the keys.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> index = nda.build_index(images, tempfile.mkdtemp() + "/x.nda", image_size=16, scales=[nda.Scale(5)])
            >>> index.ids(["00000007", "00000003"])
            array([7, 3])
        """
        wanted, shards = check_keys(keys), self._collection.shards
        if not wanted:
            return np.empty(0, np.int64)
        starts = self._collection.offsets[:-1].tolist()
        parts = [shards.with_keys(number, wanted) + start for number, start in enumerate(starts)]
        found = np.concatenate(parts)
        found = found[self._present[found]]
        names = self._rows(found)["key"].to_pylist()
        if (error := missing_key(wanted, set(names))) is not None:
            raise error
        places = {key: place for place, key in reversed(list(enumerate(wanted)))}
        ordered: NDArray[np.int64] = found[np.argsort([places[name] for name in names], kind="stable")]
        return ordered

    def _known(self, image_ids: Any) -> NDArray[np.int64]:
        return check_ids("image_ids", image_ids, self._present)

    def _rows(self, image_ids: NDArray[np.int64]) -> pa.Table:
        return self._collection.by_shard(image_ids, self._collection.shards.rows, pa.concat_tables, pa.Table.take)
