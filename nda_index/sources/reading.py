"""Where images come from: folders, Parquet files, WebDataset shards, .npz archives and arrays.

A source is opened, which counts its images and finds its metadata columns, and then read in batches of decoded images.
"""

from __future__ import annotations

import glob
import json
import tarfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nda_index.errors import ConfigError, ImageDecodeError, SourceError
from nda_index.images import decode_image, name_of

Source: TypeAlias = "str | PathLike[str] | Sequence[str | PathLike[str]] | NDArray[np.uint8]"

IMAGE_ENDINGS = frozenset([".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"])
OWN_COLUMNS = ("image_id", "key", "pixels", "sha256", "row_sha256")
KEY_COLUMNS = ("key", "path", "id", "file_name", "filename")
IMAGE_COLUMNS = ("image", "img", "jpg", "png", "bytes")
WORKERS = 2  # decoding threads; Pillow releases the interpreter lock
CHUNK = 64  # images a thread decodes at a time
KINDS = "a folder of images, .parquet, .tar or .npz file(s), or a uint8 array [N, H, W, C]"


@dataclass(frozen=True)
class RawImage:
    """One image before it is decoded: file bytes, pixels [H, W, C], or None where the source has nothing."""

    key: str
    data: bytes | Path | NDArray[np.uint8] | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class ImageBatch:
    """Decoded images uint8 [B, C, H, W], their keys and metadata, and the failures met on the way."""

    images: NDArray[np.uint8]
    keys: list[str]
    metadata: pa.Table
    failures: list[Failure]


@dataclass(frozen=True)
class OpenSource:
    """A source, counted: its kind, number of images, metadata columns, and `read`, which gives the images in order."""

    kind: str
    count: int
    schema: pa.Schema
    read: Callable[[], Iterator[RawImage]]


def open_source(source: Source, *, columns: Sequence[str] | None = None) -> OpenSource:
    """Find out what a source holds, without decoding it.

    Args:
        source: a folder, a path or several or a glob of Parquet files or .tar shards, an .npz, or a uint8 array
            [N, H, W, C] or [N, H, W].
        columns: metadata columns to keep; all by default.

    Returns:
        The source, ready to be read by `read_batches`. Its order is the same every time.

    Raises:
        SourceError: there is nothing there, no image in it, or it cannot be read.
        ConfigError: a column that is not there, or whose name is taken; an array that is not uint8.

    Example:
        >>> open_source(np.zeros((5, 8, 8, 3), np.uint8)).count
        5
    """
    opened = _open_array(source) if isinstance(source, np.ndarray) else _open_paths(source)
    if opened.count == 0:
        raise SourceError(f"the source {name_of(source)} holds no image; it must be {KINDS}, with 1 image or more")
    available = opened.schema.names
    for name in columns or ():
        if name not in available:
            raise ConfigError(f"the source has no metadata column {name!r}; it has {', '.join(available) or 'none'}")
    wanted = [name for name in available if columns is None or name in columns]
    for name in wanted:
        if name in OWN_COLUMNS:
            raise ConfigError(
                f"the metadata column {name!r} has the name of one of the index's own; name the others with columns="
            )
    schema = pa.schema([opened.schema.field(name) for name in wanted])
    return OpenSource(opened.kind, opened.count, schema, opened.read)


def part_of(opened: OpenSource, positions: range) -> OpenSource:
    """The images of a source at some positions, one after the other.

    Example:
        >>> part_of(open_source(np.zeros((5, 8, 8, 3), np.uint8)), range(3, 5)).count
        2
    """

    def read() -> Iterator[RawImage]:
        return islice(opened.read(), positions.start, positions.stop)

    return OpenSource(opened.kind, len(positions), opened.schema, read)


def read_batches(
    opened: OpenSource, image_size: tuple[int, int], channels: int, batch_size: int = 1024, start: int = 0
) -> Iterator[ImageBatch]:
    """Decode a source's images in order, on several threads, a bounded number ahead.

    Args:
        opened: from `open_source`.
        image_size: (height, width) that images are resized and cropped to.
        channels: 3 or 1.
        batch_size: images in a batch at most.
        start: number of images at the beginning that are left out.

    Returns:
        Batches; an image that cannot be read is in a batch's failures instead.

    Example:
        >>> opened = open_source(np.zeros((5, 9, 9, 3), np.uint8))
        >>> [len(batch.images) for batch in read_batches(opened, (8, 8), 3, batch_size=4)]
        [4, 1]
    """

    def decode(chunk: list[RawImage]) -> list[NDArray[np.uint8] | str]:
        return [_decoded_or_reason(raw, image_size, channels) for raw in chunk]

    with ThreadPoolExecutor(WORKERS) as pool:
        ahead: deque[tuple[list[RawImage], Future[list[NDArray[np.uint8] | str]]]] = deque()
        pending: list[tuple[RawImage, NDArray[np.uint8] | str]] = []
        for chunk in _chunks(islice(opened.read(), start, None), CHUNK):
            ahead.append((chunk, pool.submit(decode, chunk)))
            if len(ahead) > 4 * WORKERS:
                raws, future = ahead.popleft()
                pending += zip(raws, future.result(), strict=True)
            while len(pending) >= batch_size:
                yield _batch(pending[:batch_size], opened.schema, image_size, channels)
                pending = pending[batch_size:]
        for raws, future in ahead:
            pending += zip(raws, future.result(), strict=True)
    for start in range(0, len(pending), batch_size):
        yield _batch(pending[start : start + batch_size], opened.schema, image_size, channels)


def _decoded_or_reason(raw: RawImage, image_size: tuple[int, int], channels: int) -> NDArray[np.uint8] | str:
    if raw.data is None:
        return "the source holds no bytes for it"
    try:
        return decode_image(raw.data, image_size, channels)
    except ImageDecodeError as error:
        return str(error)


def _batch(
    pairs: list[tuple[RawImage, NDArray[np.uint8] | str]], schema: pa.Schema, size: tuple[int, int], channels: int
) -> ImageBatch:
    good = [(raw, result) for raw, result in pairs if not isinstance(result, str)]
    images = np.empty((len(good), channels, *size), np.uint8)
    for target, (_, pixels) in zip(images, good, strict=True):
        target[:] = pixels
    metadata = {
        name: pa.array([raw.metadata.get(name) for raw, _ in good], schema.field(name).type) for name in schema.names
    }
    failures = [Failure(raw.key, result) for raw, result in pairs if isinstance(result, str)]
    return ImageBatch(images, [raw.key for raw, _ in good], pa.table(metadata, schema=schema), failures)


def _chunks(raws: Iterator[RawImage], size: int) -> Iterator[list[RawImage]]:
    chunk: list[RawImage] = []
    for raw in raws:
        chunk.append(raw)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


# Kinds of sources


def _open_array(array: NDArray[Any]) -> OpenSource:
    if array.dtype != np.uint8:
        raise ConfigError(
            f"the array has type {array.dtype}; it must be uint8: floats in 0..1 as (x * 255).astype('uint8')"
        )
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise ConfigError(
            f"the array has shape {list(array.shape)}; it must be [N, H, W, C] with 1 or 3 channels, or [N, H, W]"
        )

    def read() -> Iterator[RawImage]:
        for i, image in enumerate(array):
            yield RawImage(f"{i:08d}", image, {})

    return OpenSource("array", len(array), pa.schema([]), read)


def _open_paths(source: str | PathLike[str] | Sequence[str | PathLike[str]]) -> OpenSource:
    if isinstance(source, str | PathLike):
        text = fspath(source)
        if Path(text).is_dir():
            return _open_folder(Path(text))
        paths = (
            [Path(text)] if Path(text).exists() else [Path(name) for name in sorted(glob.glob(text, recursive=True))]
        )
    else:
        paths = [Path(part) for part in source]
    if not paths:
        raise SourceError(f"there is nothing at {name_of(source)}; the source must be {KINDS}")
    for path in paths:
        if not path.is_file():
            raise SourceError(f"there is no file at {str(path)!r}; the source must be {KINDS}")
    kinds = {path.suffix.lower() for path in paths}
    if kinds == {".parquet"}:
        return _open_parquet(paths)
    if kinds == {".tar"}:
        return _open_tar(paths)
    if kinds == {".npz"} and len(paths) == 1:
        return _open_npz(paths[0])
    raise SourceError(f"the source {name_of(source)} is of no known kind; it must be {KINDS}")


def _open_folder(folder: Path) -> OpenSource:
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    images = sorted((path for path in files if path.suffix.lower() in IMAGE_ENDINGS), key=lambda path: path.as_posix())
    tables = sorted(path for path in files if path.suffix.lower() == ".parquet")
    if tables and not images:
        return _open_parquet(tables)

    def read() -> Iterator[RawImage]:
        for path in images:
            yield RawImage(path.relative_to(folder).as_posix(), path, {})

    return OpenSource("folder", len(images), pa.schema([]), read)


def _open_parquet(paths: list[Path]) -> OpenSource:
    schemas = [_parquet_schema(path) for path in paths]
    for path, schema in zip(paths, schemas, strict=True):
        if not schema.equals(schemas[0]):
            raise SourceError(f"{str(path)!r} has other columns than {str(paths[0])!r}; index them one by one")
    schema = schemas[0]
    image = _image_column(schema)
    if image is None:
        raise SourceError(
            f"{str(paths[0])!r} has no image column (a struct with bytes, or binary); it has {schema.names}"
        )
    flat = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    metadata = [field for field in schema if field.name != image and not any(test(field.type) for test in flat)]
    key = next(
        (name for name in KEY_COLUMNS if name in schema.names and pa.types.is_string(schema.field(name).type)), None
    )
    fields = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in metadata
        if field.name != "key"
    ]

    def read() -> Iterator[RawImage]:
        for path in paths:
            number = 0
            wanted = [image, *(field.name for field in metadata)]
            for batch in _parquet_batches(path, wanted):
                for row in batch.to_pylist():
                    value = row.pop(image)
                    data, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
                    own = name or (row.get(key) if key else None)
                    yield RawImage(own or f"{path.stem}-{number:08d}", data, row)
                    number += 1

    count = sum(pq.read_metadata(path).num_rows for path in paths)
    return OpenSource("parquet", count, pa.schema(fields), read)


def _parquet_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path).remove_metadata()
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{str(path)!r} cannot be read as Parquet: {error}; check that it is complete") from error


def _parquet_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=CHUNK, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{str(path)!r} cannot be read to its end: {error}; check that it is complete") from error


def _image_column(schema: pa.Schema) -> str | None:
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    binary = [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    return next((name for name in IMAGE_COLUMNS if name in binary), binary[0] if binary else None)


def _open_tar(paths: list[Path]) -> OpenSource:
    values: dict[str, set[type]] = {}
    count = 0
    for path in paths:  # a first pass, to count images and to know the metadata columns
        for _, members in _tar_samples(path, pixels=False):
            count += any(ending in IMAGE_ENDINGS for ending in members)
            for name, value in _tar_metadata(members).items():
                values.setdefault(name, set()).add(type(value))
    schema = pa.schema([(name, _arrow_type(types)) for name, types in values.items()])
    strings = {field.name for field in schema if pa.types.is_string(field.type)}

    def read() -> Iterator[RawImage]:
        for path in paths:
            for key, members in _tar_samples(path, pixels=True):
                metadata = _tar_metadata(members)
                row = {name: str(value) if name in strings else value for name, value in metadata.items()}
                data = next((data for ending, data in members.items() if ending in IMAGE_ENDINGS), None)
                if data is not None:
                    yield RawImage(key, data, row)

    return OpenSource("webdataset", count, schema, read)


def _tar_samples(path: Path, pixels: bool) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Members that share a name up to its first dot: key, and contents by ending (empty for unwanted pixels)."""
    if path.stat().st_size % tarfile.BLOCKSIZE:  # tarfile takes a header that is cut short for the end
        raise SourceError(f"{str(path)!r} is no whole number of blocks; check that the shard is complete")
    key, members = None, dict[str, bytes]()
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if not member.isfile() or PurePosixPath(member.name).name.startswith("."):
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                current = f"{folder}/{stem}" if folder else stem
                if current != key:
                    if key is not None:
                        yield key, members
                    key, members = current, {}
                file = archive.extractfile(member)
                skip = not pixels and f".{ending.lower()}" in IMAGE_ENDINGS
                members[f".{ending.lower()}"] = b"" if skip or file is None else file.read()
        if key is not None:
            yield key, members
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(
            f"{str(path)!r} cannot be read to its end: {error}; check that the shard is complete"
        ) from error


def _tar_metadata(members: dict[str, bytes]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if ".json" in members:
        try:
            values = json.loads(members[".json"])
        except ValueError:
            values = {}
        if isinstance(values, dict):
            row |= {name: value for name, value in values.items() if isinstance(value, bool | int | float | str)}
    if ".cls" in members:
        text = members[".cls"].decode(errors="replace").strip()
        row["cls"] = int(text) if text.lstrip("-").isdigit() else None
    if ".txt" in members:
        row["txt"] = members[".txt"].decode(errors="replace")
    return {name: value for name, value in row.items() if value is not None}


def _arrow_type(types: set[type]) -> pa.DataType:
    if types == {bool}:
        return pa.bool_()
    if types == {int}:
        return pa.int64()
    return pa.float64() if types <= {int, float} else pa.string()


def _open_npz(path: Path) -> OpenSource:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{str(path)!r} cannot be read as .npz without pickles: {error}; save plain arrays"
        ) from error
    stacks = [name for name, array in arrays.items() if array.dtype == np.uint8 and array.ndim == 4]
    chosen = next((name for name in ("images", "image", "train", "data", "x") if name in stacks), None)
    if chosen is None and len(stacks) == 1:
        chosen = stacks[0]
    if chosen is None:
        raise SourceError(f"{str(path)!r} has no array 'images' of uint8 [N, H, W, C]; it has {', '.join(arrays)}")
    images = arrays[chosen]
    if images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    opened = _open_array(images)
    rows = {n: a for n, a in arrays.items() if a.shape == (len(images),) and a.dtype.kind in "biufU" and n != chosen}
    keys = rows.pop("keys", rows.pop("key", None))
    columns = pa.table({name: pa.array(array) for name, array in rows.items()})

    def read() -> Iterator[RawImage]:
        for i, raw in enumerate(opened.read()):
            key = raw.key if keys is None else str(keys[i])
            yield RawImage(key, raw.data, {name: columns[name][i].as_py() for name in columns.column_names})

    return OpenSource("npz", opened.count, columns.schema, read)
