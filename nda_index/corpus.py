"""The indexed images and their metadata: a Lance table, read by image id and filtered by SQL."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nda_index.errors import CorruptIndexError, QueryError, StorageError
from nda_index.sources import ImageBatch

TABLE = "images"
OWN_COLUMNS = ("image_id", "key", "pixels", "sha256")


class Corpus:
    """Images uint8 [N, C, H, W] with a key and metadata each, on disk."""

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        """Open the table that `write_corpus` wrote into `folder`; `shape` is (C, H, W)."""
        try:
            self._table = lancedb.connect(str(folder)).open_table(TABLE)
            self.count: int = self._table.count_rows()
            self.schema: pa.Schema = self._table.schema
        except (ValueError, OSError, RuntimeError) as error:
            raise CorruptIndexError(
                f"the image table of {str(folder)!r} cannot be opened: {_first_line(error)}; build the index again"
            ) from error
        self.shape = shape

    @property
    def metadata_columns(self) -> list[str]:
        """Names of the columns that came with the images."""
        return [name for name in self.schema.names if name not in OWN_COLUMNS]

    def pixels(self, image_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of some images, in the order of their ids: uint8 [n, C, H, W].

        Raises:
            CorruptIndexError: pixels differ from what was stored at build.
        """
        rows = self._take(image_ids, ["image_id", "pixels", "sha256"])
        images = _pixels(rows["pixels"], self.shape)
        for image_id, image, digest in zip(image_ids, images, rows["sha256"].to_pylist(), strict=True):
            if hashlib.sha256(image).digest() != digest:
                raise CorruptIndexError(
                    f"the pixels of image {image_id} are not those that were indexed; restore the index from a copy, "
                    f"or build it again"
                )
        return images

    def rows(self, image_ids: NDArray[np.int64]) -> tuple[tuple[str, ...], pa.Table]:
        """Keys and metadata of some images, in the order of their ids."""
        rows = self._take(image_ids, ["image_id", "key", *self.metadata_columns])
        return tuple(rows["key"].to_pylist()), rows.select(self.metadata_columns)

    def matching(self, where: str) -> NDArray[np.int64]:
        """Ids of the images whose metadata fulfil an SQL condition, ascending.

        Raises:
            QueryError: the condition is no SQL or names a column that is not there.
        """
        try:
            found = self._table.search().where(where).select(["image_id"]).to_arrow()
        except (ValueError, RuntimeError, OSError) as error:
            known = ", ".join(["key", *self.metadata_columns])
            raise QueryError(
                f"where is {where!r}, which cannot be answered: {_first_line(error)}; it must be an SQL condition on "
                f"the columns {known}"
            ) from error
        return np.sort(found["image_id"].to_numpy())

    def batches(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """All images in the order of their ids: ids int64 [n] and pixels uint8 [n, C, H, W]."""
        for start in range(0, self.count, size):
            image_ids = np.arange(start, min(start + size, self.count))
            yield image_ids, self.pixels(image_ids)

    def _take(self, image_ids: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        if len(image_ids) == 0:
            return self.schema.empty_table().select(list(columns))
        try:
            rows = self._table.take_offsets(image_ids.tolist()).select(list(columns)).to_arrow()
        except (ValueError, RuntimeError, OSError) as error:
            raise CorruptIndexError(
                f"images cannot be read from the index: {_first_line(error)}; run `nda-index verify` on it"
            ) from error
        order = pc.index_in(pa.array(image_ids), rows["image_id"].combine_chunks())  # rows come in the table's order
        if order.null_count:
            raise CorruptIndexError("the index lacks images that its lists name; run `nda-index verify` on it")
        return rows.take(order)


def write_corpus(folder: Path, shape: tuple[int, int, int], metadata: pa.Schema, batches: Iterable[ImageBatch]) -> int:
    """Write images to a new table in `folder`, numbered from 0 in their order.

    Args:
        folder: of the index.
        shape: (C, H, W).
        metadata: schema of the columns that come with the images.
        batches: the images.

    Returns:
        Number of images.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    size = int(np.prod(shape))
    schema = pa.schema(
        [
            ("image_id", pa.int64()),
            ("key", pa.string()),
            ("pixels", pa.list_(pa.uint8(), size)),
            ("sha256", pa.binary(32)),
        ]
    )
    for field in metadata:
        schema = schema.append(field)
    written = 0
    source_errors: list[BaseException] = []  # what the batches raise comes back from Lance as an error of its own

    def rows() -> Iterator[pa.RecordBatch]:
        nonlocal written
        yield pa.RecordBatch.from_pylist([], schema=schema)  # Lance wants a first batch, even of no image
        for batch in _noted(batches, source_errors):
            n = len(batch.images)
            if n == 0:
                continue
            columns = [
                pa.array(np.arange(written, written + n)),
                pa.array(batch.keys, pa.string()),
                pa.FixedSizeListArray.from_arrays(pa.array(batch.images.reshape(-1)), size),
                pa.array([hashlib.sha256(image).digest() for image in batch.images], pa.binary(32)),
                *(batch.metadata[name].combine_chunks() for name in metadata.names),
            ]
            written += n
            yield pa.record_batch(columns, schema=schema)

    try:
        lancedb.connect(str(folder)).create_table(TABLE, rows(), schema=schema)
    except (OSError, RuntimeError) as error:
        if source_errors:
            raise source_errors[0] from None
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            raise
        raise StorageError(
            f"the images cannot be written to {str(folder)!r}: {_first_line(error)}; make room there and build again"
        ) from error
    return written


def _noted(batches: Iterable[ImageBatch], errors: list[BaseException]) -> Iterator[ImageBatch]:
    try:
        yield from batches
    except BaseException as error:
        if not isinstance(error, GeneratorExit):
            errors.append(error)
        raise


def _pixels(column: Any, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    values: NDArray[np.uint8] = column.combine_chunks().flatten().to_numpy()
    return values.reshape(-1, *shape)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
