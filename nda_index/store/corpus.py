"""The indexed images and their metadata: a Lance table, read by image id and filtered by conditions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nda_index.errors import CorruptIndexError, StorageError, find_remedy
from nda_index.images import Pixels
from nda_index.sources import OWN_COLUMNS, ImageBatch
from nda_index.store.conditions import column_kinds, parse_condition
from nda_index.store.config import PIXELS

PICTURE = "nda_picture"  # column of the records of pictures, where an index has them
SCANNED = 1 << 16  # rows whose metadata are looked at together


class Images(Protocol):
    """Images [C, H, W] that are read by their ids, wherever they lie."""

    count: int
    shape: tuple[int, int, int]

    def pixels(self, image_ids: NDArray[np.int64]) -> Pixels:
        """Read the pixels of some, uint8 [n, C, H, W]."""


class Corpus:
    """Images uint8 [N, C, H, W] with a key and metadata each, on disk, as they were at one version of their table."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], table: dict[str, Any]) -> None:
        """Open a table in `folder` as it was at a version; `shape` is (C, H, W), `table` from `append_images`."""
        try:
            self._table = lancedb.connect(str(folder)).open_table(table["name"])
            self._table.checkout(table["version"])
            self.count: int = self._table.count_rows()
            self.schema: pa.Schema = self._table.schema
        except Exception as error:  # Lance meets damage in many ways, panics of its runtime among them
            raise CorruptIndexError(
                f"the image table of {str(folder)!r} cannot be opened: {_first_line(error)}; "
                f"{find_remedy(error, 'build the index again')}"
            ) from error
        self.shape = shape

    @property
    def metadata_columns(self) -> list[str]:
        """Names of the columns that came with the images."""
        return [name for name in self.schema.names if name not in OWN_COLUMNS]

    @property
    def metadata_schema(self) -> pa.Schema:
        """Names and types of the columns that came with the images."""
        return pa.schema([self.schema.field(name) for name in self.metadata_columns])

    def pixels(self, image_ids: NDArray[np.int64]) -> Pixels:
        """Read the pixels of some images, in the order of their ids: uint8 [n, C, H, W], of latents float16.

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
        """Read keys and metadata of some images, in the order of their ids.

        Raises:
            CorruptIndexError: they differ from what was stored at build.
        """
        rows = self._take(image_ids, ["image_id", "key", "row_sha256", *self.metadata_columns])
        keys, metadata = rows["key"].to_pylist(), rows.select(self.metadata_columns)
        stored = rows["row_sha256"].to_pylist()
        digests = _row_digests(keys, metadata)
        if digests != stored and any(pa.types.is_timestamp(kind) and kind.tz for kind in metadata.schema.types):
            digests = _row_digests(keys, metadata, as_of_old=True)
        for image_id, digest, expected in zip(image_ids, digests, stored, strict=True):
            if digest != expected:
                raise CorruptIndexError(
                    f"the key or metadata of image {image_id} are not those that were indexed; restore the index from "
                    f"a copy, or build it again"
                )
        return tuple(keys), metadata

    def hashes(self, image_ids: NDArray[np.int64]) -> list[str]:
        """Read the sha256 of the pixels of some images, in hexadecimal, in the order of their ids."""
        return [digest.hex() for digest in self._take(image_ids, ["image_id", "sha256"])["sha256"].to_pylist()]

    def matching(self, where: str) -> NDArray[np.int64]:
        """Find the images whose metadata fulfil a condition: ids, ascending.

        Raises:
            QueryError: it is not a condition (`nda_index.store.conditions`), or names a column that is not there.
        """
        predicate = parse_condition(where, column_kinds(self.metadata_schema)).predicate
        batches = self._scan(["image_id", *sorted(predicate.names())])
        return _sorted_ids(batch["image_id"].filter(predicate.evaluate(batch)) for batch in batches)

    def with_keys(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Find the images that have one of these keys: ids, ascending."""
        wanted = pa.array(list(keys), pa.string())
        batches = self._scan(["image_id", "key"])
        return _sorted_ids(batch["image_id"].filter(pc.is_in(batch["key"], wanted)) for batch in batches)

    def with_hashes(self, hashes: Sequence[str]) -> NDArray[np.int64]:
        """Find the images whose pixels have one of these sha256, in hexadecimal: ids, ascending."""
        wanted = pa.array([bytes.fromhex(digest) for digest in hashes], pa.binary(32))
        batches = self._scan(["image_id", "sha256"])
        return _sorted_ids(batch["image_id"].filter(pc.is_in(batch["sha256"], wanted)) for batch in batches)

    def digests(self, but: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the short digests of the pixels of all images but some, in no order."""
        parts = list[NDArray[np.uint64]]()
        for batch in self._scan(["image_id", "sha256"]):
            kept = np.isin(batch["image_id"].to_numpy(), but, invert=True)
            parts.append(short_digests(batch["sha256"])[kept])
        return np.concatenate([np.empty(0, np.uint64), *parts])

    def digests_of(self, keys: Iterable[str], but: NDArray[np.int64]) -> dict[str, set[bytes]]:
        """Return the sha256 of the pixels of the images that have some keys, by key; some images are left out."""
        found: dict[str, set[bytes]] = {}
        rows = self._take(np.setdiff1d(self.with_keys(list(keys)), but), ["image_id", "key", "sha256"])
        for key, digest in zip(rows["key"].to_pylist(), rows["sha256"].to_pylist(), strict=True):
            found.setdefault(key, set()).add(digest)
        return found

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[NDArray[np.int64], Pixels]]:
        """Read images in the order of their ids, all by default: ids int64 [n] and pixels uint8 [n, C, H, W]."""
        stop = self.count if stop is None else stop
        for first in range(start, stop, size):
            image_ids = np.arange(first, min(first + size, stop))
            yield image_ids, self.pixels(image_ids)

    def copy_rows(self, image_ids: NDArray[np.int64], start: int) -> pa.Table:
        """Return whole rows of some images, numbered from `start`."""
        rows = self._take(image_ids, self.schema.names)
        return rows.set_column(0, "image_id", pa.array(np.arange(start, start + len(image_ids))))

    def pictures(self, image_ids: NDArray[np.int64]) -> list[Any]:
        """Read the records of some images' pictures, in the order of their ids; the table must have them.

        Beside latents they are files of small pictures, None where a latent has none.
        """
        records: list[Any] = self._take(image_ids, ["image_id", PICTURE])[PICTURE].to_pylist()
        return records

    def _scan(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read columns of all rows."""
        try:
            yield from self._table.search().select(list(columns)).to_batches(SCANNED)
        except (ValueError, RuntimeError, OSError) as error:
            raise CorruptIndexError(
                f"metadata cannot be read from the index: {_first_line(error)}; "
                f"{find_remedy(error, 'run `nda-index verify` on it')}"
            ) from error

    def _take(self, image_ids: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        if len(image_ids) == 0:
            return self.schema.empty_table().select(list(columns))
        try:
            rows = self._table.take_offsets(image_ids.tolist()).select(list(columns)).to_arrow()
        except Exception as error:
            raise CorruptIndexError(
                f"images cannot be read from the index: {_first_line(error)}; "
                f"{find_remedy(error, 'run `nda-index verify` on it')}"
            ) from error
        order = pc.index_in(pa.array(image_ids), rows["image_id"].combine_chunks())  # rows come in the table's order
        if order.null_count:
            raise CorruptIndexError("the index lacks images that its lists name; run `nda-index verify` on it")
        return rows.take(order)


def short_digests(column: pa.FixedSizeBinaryArray) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each of some sha256."""
    first, width = column.offset, column.type.byte_width
    digests = np.frombuffer(column.buffers()[1], np.uint8)[first * width : (first + len(column)) * width]
    return np.ascontiguousarray(digests.reshape(-1, width)[:, :8]).view(np.uint64).reshape(-1)


def is_table_file(file: str, table: str = "") -> bool:
    """Tell whether a file of an index belongs to a table of images, or to the one of this name.

    Example:
        >>> is_table_file("images.lance/data/0.lance"), is_table_file("images-1.lance/data/0.lance", "images")
        (True, False)
    """
    return file.startswith(f"{table}.lance/") if table else ".lance/" in file


def table_schema(
    shape: tuple[int, int, int],
    metadata: pa.Schema,
    picture: pa.DataType | None = None,
    values: str = PIXELS,
) -> pa.Schema:
    """Return the schema of a table of images [C, H, W] that come with metadata columns.

    Args:
        shape: of the images.
        metadata: names and types of the columns that come with them.
        picture: type of the records of pictures; None where the table has none.
        values: type of the images' numbers, as `IndexConfig` has it.
    """
    own = [
        pa.field("image_id", pa.int64()),
        pa.field("key", pa.string()),
        pa.field("pixels", pa.list_(pa.from_numpy_dtype(values), int(np.prod(shape)))),
        pa.field("sha256", pa.binary(32)),
        pa.field("row_sha256", pa.binary(32)),
    ]
    if picture is not None:
        own.append(pa.field(PICTURE, picture))
    return pa.schema([*own, *metadata])


def as_rows(batch: ImageBatch, start: int, schema: pa.Schema) -> pa.Table:
    """Make rows of images, numbered from `start`."""
    n = len(batch.images)
    columns = [
        pa.array(np.arange(start, start + n)),
        pa.array(batch.keys, pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(batch.images.reshape(-1)), batch.images[0].size),
        pa.array([hashlib.sha256(image).digest() for image in batch.images], pa.binary(32)),
        pa.array(_row_digests(batch.keys, batch.metadata), pa.binary(32)),
    ]
    if PICTURE in schema.names:
        columns.append(
            pa.array(batch.pictures or [None] * n, schema.field(PICTURE).type)
        )  # beside latents there may be
    columns += [batch.metadata[name].combine_chunks() for name in schema.names if name not in OWN_COLUMNS]
    return pa.table(columns, schema=schema)


def append_images(folder: Path, name: str, rows: Sequence[pa.Table]) -> dict[str, Any]:
    """Append rows to a table, which is made if it is not there: they are in its next version, all or none.

    Args:
        folder: of the index.
        name: of the table.
        rows: of one schema, from `as_rows` or `Corpus.copy_rows`; at least one table.

    Returns:
        "name" and "version" of the table that has them.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    try:
        database = lancedb.connect(str(folder))
        if any((folder / f"{name}.lance" / "_versions").glob("*.manifest")):
            table = database.open_table(name)
            table.add(pa.concat_tables(rows))
        else:
            table = database.create_table(name, pa.concat_tables(rows))
    except (OSError, RuntimeError) as error:
        raise StorageError(
            f"the images cannot be written to {str(folder)!r}: {_first_line(error)}; "
            f"{find_remedy(error, 'build again, or choose another folder')}"
        ) from error
    return {"name": name, "version": table.version}


def _row_digests(keys: Sequence[str], metadata: pa.Table, as_of_old: bool = False) -> list[bytes]:
    """sha256 of each row's key and metadata; times are written in UTC, without a zone.

    Up to version 0.1.0 they had their zone, which different libraries write differently.
    """
    for number, field in enumerate(metadata.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz and not as_of_old:
            naive = pa.timestamp(field.type.unit)
            moments = metadata.column(number).cast(pa.timestamp(field.type.unit, "UTC")).cast(pa.int64()).cast(naive)
            metadata = metadata.set_column(number, field.name, moments)
    rows = metadata.to_pylist() if metadata.num_columns else [{}] * len(keys)
    return [
        hashlib.sha256(repr((key, list(row.items()))).encode()).digest() for key, row in zip(keys, rows, strict=True)
    ]


def _sorted_ids(parts: Iterable[pa.Array]) -> NDArray[np.int64]:
    return np.sort(np.concatenate([np.empty(0, np.int64), *(part.to_numpy() for part in parts)]))


def _pixels(column: Any, shape: tuple[int, int, int]) -> Pixels:
    values: Pixels = column.combine_chunks().flatten().to_numpy()
    return values.reshape(-1, *shape)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
