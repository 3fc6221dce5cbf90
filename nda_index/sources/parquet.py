"""Parquet files with an image column: a struct with `bytes` (and `path`), as Hugging Face writes it, or binary."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from nda_index.errors import ConfigError, SourceError, find_remedy
from nda_index.images import Latent
from nda_index.sources.base import CHUNK, Absent, OpenSource, RawImage, Unreadable, to_text
from nda_index.sources.latent_columns import choose_latent_column, list_latent_columns, read_latents
from nda_index.sources.metadata import choose_likely, clean_text, read_values, stored_type

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")  # of several, the first of these
KEY_COLUMNS = ("key", "path", "id", "file_name", "filename", "uuid", "image_id")  # of several, the first of these
NOTE_COLUMNS = ("error_message", "status")  # of rows whose download failed, as img2dataset writes them
_UUID_BYTES = 16


class Damaged(NamedTuple):
    """Stands for rows that cannot be read."""

    rows: int
    reason: str


Part: TypeAlias = "pa.RecordBatch | Damaged"
ReadFiles: TypeAlias = "Callable[[list[str]], Iterator[tuple[str, Iterator[Part]]]]"


def open_parquet(paths: list[Path], image_column: str | None = None, latents: bool = False) -> OpenSource:
    """Open Parquet files of the same columns. Their rows are read in order, a few at a time.

    An image's key is its value in the column `key`, else the path in its struct, else its value in another key column,
    else its file's name and its row. Columns that hold no bytes are metadata.

    Args:
        paths: of the files, one or more.
        image_column: name of the column that holds the images, or the latents; None finds it.
        latents: it holds latents, and a column of images beside these is for people to look at.

    Raises:
        SourceError: a file is not Parquet, the columns differ, or none holds images, or several do.
        ConfigError: `image_column` is none of the columns that hold images.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "set.parquet")
        >>> pq.write_table(pa.table({"image": [b"", b""], "year": [1999, 2001]}), path)
        >>> [(image.key, image.metadata) for image in open_parquet([path]).read()]
        [('set-00000000', {'year': 1999}), ('set-00000001', {'year': 2001})]
    """
    schema = _read_common_schema(paths)

    def read_files(columns: list[str]) -> Iterator[tuple[str, Iterator[Part]]]:
        return ((f"{to_text(path.stem)}-", _read_parts(path, columns)) for path in paths)

    count = sum(pq.read_metadata(path).num_rows for path in paths)
    image, latent = choose_columns(schema, image_column, paths[0], latents)
    opened = open_tables("parquet", image, count, schema, read_files, latent)
    return replace(opened, files=tuple(paths))


def open_tables(
    kind: str, image: str | None, count: int, schema: pa.Schema, read_files: ReadFiles, latent: str | None = None
) -> OpenSource:
    """Open rows of tables, wherever they lie: find the columns of the keys and of the metadata.

    Args:
        kind: of the source.
        image: column of the images; None where there are only latents.
        count: number of rows.
        schema: of the tables.
        read_files: gives for the columns that are wanted, file by file, what keys of rows begin with, and the rows.
        latent: column of the latents.
    """
    key = find_key_column(schema)
    own = {image, latent, key if key == "key" else None}
    others = [field for field in schema if field.name not in own]
    stored = {field.name: stored_type(field.type) for field in others}
    metadata = {name: kind for name, kind in stored.items() if kind is not None}
    pictures = list_image_columns(schema)
    dropped = {
        field.name: f"{'holds pictures too' if field.name in pictures else f'is of type {field.type}'} and is left out"
        for field in others
        if stored[field.name] is None and field.name != key
    }

    def read() -> Iterator[RawImage]:
        notes = [name for name in NOTE_COLUMNS if name in schema.names]
        wanted = dict.fromkeys(name for name in (image, latent, *metadata, key, *notes) if name is not None)
        for prefix, parts in read_files(list(wanted)):
            number = 0
            for part in parts:
                if isinstance(part, Damaged):
                    for place in range(number, number + part.rows):
                        yield RawImage(f"{prefix}{place:08d}", Unreadable(part.reason), {})
                    number += part.rows
                    continue
                values = {name: read_values(part[name], kind) for name, kind in metadata.items()}
                keys = [None] * len(part) if key is None else [_key_text(value) for value in part[key]]
                why = _why_absent(part)
                latents = None if latent is None else read_latents(part[latent])
                for place in range(len(part)):
                    data, name = (None, None) if image is None else _split_image(part[image][place])
                    if latents is None:
                        data = why(place) if data is None and name is None else data
                    else:
                        held = latents[place]
                        data = held if isinstance(held, Unreadable) else Latent(held, data)
                    own = keys[place] or name if key == "key" else name or keys[place]
                    row = {column: kept[place] for column, kept in values.items()}
                    yield RawImage(own or f"{prefix}{number:08d}", data, row)
                    number += 1

    shown = latent is not None and image is not None
    return OpenSource(kind, count, pa.schema(metadata.items()), read, dropped=dropped, shown=shown)


def choose_columns(schema: pa.Schema, wanted: str | None, path: Path, latents: bool) -> tuple[str | None, str | None]:
    """Return the columns of the images and of the latents: of latents, images are those beside them, if there are any.

    Args:
        schema: of the files.
        wanted: name of the column that is indexed, or None.
        path: of a file, for messages.
        latents: latents are indexed.
    """
    if not latents:
        return choose_image_column(schema, wanted, path), None
    latent = choose_latent_column(schema, wanted, path)
    return choose_image_column(schema, None, path) if list_image_columns(schema) else None, latent


def choose_image_column(schema: pa.Schema, wanted: str | None, path: Path) -> str:
    """Return the column that holds the images: the one that is wanted, or the one that its name and type tell.

    Args:
        schema: of the files.
        wanted: its name, or None.
        path: of a file, for messages.

    Example:
        >>> choose_image_column(pa.schema([("mask", pa.binary()), ("image", pa.binary())]), None, Path("a.parquet"))
        'image'
    """
    found = list_image_columns(schema)
    if wanted is not None:
        if wanted not in found:
            known = f"the columns with images are {', '.join(found)}" if found else "no column holds images"
            there = f"{known}; its columns are {', '.join(schema.names)}"
            raise ConfigError(f"image_column is {wanted!r}, but in {path.name!r} {there}")
        return wanted
    structs = [name for name in found if pa.types.is_struct(schema.field(name).type)]
    likely = [name for name in IMAGE_COLUMNS if name in found] or (structs if len(structs) == 1 else found)
    if not likely:
        raise SourceError(
            f"{to_text(path)!r} has no column with the bytes of images (a struct with bytes, or binary); its columns "
            f"are {', '.join(schema.names)}. Where one holds paths, give the folder of the files instead"
        )
    return choose_likely(likely, IMAGE_COLUMNS, "images", path)


def find_latent_column(path: Path) -> bool:
    """Tell whether a Parquet file has a column of latents, or is broken, which `open_parquet` says."""
    try:
        return bool(list_latent_columns(pq.read_schema(path)))
    except (pa.ArrowInvalid, OSError):
        return True


def list_image_columns(schema: pa.Schema) -> list[str]:
    """List the columns that may hold images: those that Hugging Face's notes call so, else all structs with `bytes` and
    all binary columns.

    Example:
        >>> list_image_columns(pa.schema([("label", pa.string()), ("jpg", pa.binary())]))
        ['jpg']
    """
    found = [field.name for field in schema if _holds_bytes(field.type)]
    noted = [name for name in _noted_images(schema) if name in found]
    return noted or found


def find_key_column(schema: pa.Schema) -> str | None:
    """Find the column that holds the keys, by its name: text of any kind, integers or UUIDs.

    Example:
        >>> find_key_column(pa.schema([("label", pa.string()), ("id", pa.int64())]))
        'id'
    """
    return next((n for n in KEY_COLUMNS if n in schema.names and _is_key(schema.field(n).type)), None)


def _noted_images(schema: pa.Schema) -> list[str]:
    """Columns that the notes of Hugging Face's `datasets` in a file call images."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [name for name, feature in features.items() if feature.get("_type") == "Image"]
    except (KeyError, ValueError, TypeError, AttributeError):
        return []


def _is_key(kind: pa.DataType) -> bool:
    types = pa.types
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    kind = kind.value_type if types.is_dictionary(kind) else kind
    fits = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer)
    return any(fit(kind) for fit in fits) or (types.is_fixed_size_binary(kind) and kind.byte_width == _UUID_BYTES)


def _key_text(value: pa.Scalar) -> str | None:
    """A value of a key column as text, None where it is missing or no text; UUIDs as they are usually written."""
    try:
        own = value.as_py()
    except ValueError:
        return None
    return None if own is None else str(uuid.UUID(bytes=own)) if isinstance(own, bytes) else str(own)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return any(fit(kind) for fit in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _read_common_schema(paths: list[Path]) -> pa.Schema:
    schemas = [_read_schema(path) for path in paths]
    twice = [name for name in schemas[0].names if schemas[0].names.count(name) > 1]
    if twice:
        raise SourceError(f"{str(paths[0])!r} has several columns {twice[0]!r}; rename them")
    for path, schema in zip(paths, schemas, strict=True):
        if not schema.equals(schemas[0]):
            raise SourceError(f"{str(path)!r} has other columns than {str(paths[0])!r}; build an index of each")
    return schemas[0]


def _read_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        remedy = find_remedy(error, "check that it is complete")
        raise SourceError(f"{str(path)!r} cannot be read as Parquet: {error}; {remedy}") from error


def _read_parts(path: Path, columns: list[str]) -> Iterator[Part]:
    """Read the rows of a file, a few at a time; a part of it that is damaged says how many rows it has."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                missing = file.metadata.row_group(group).num_rows
                try:
                    for batch in file.iter_batches(batch_size=CHUNK, row_groups=[group], columns=columns):
                        missing -= len(batch)
                        yield batch
                except (pa.ArrowException, OSError) as error:
                    remedy = find_remedy(error, "check that the file is complete")
                    yield Damaged(missing, f"this part of {to_text(path)!r} cannot be read: {error}; {remedy}")
    except (pa.ArrowInvalid, OSError) as error:
        remedy = find_remedy(error, "check that it is complete")
        raise SourceError(f"{to_text(path)!r} cannot be read to its end: {error}; {remedy}") from error


def _why_absent(part: pa.RecordBatch) -> Callable[[int], Absent]:
    """Return what says of a row without an image why it has none: in the words of the row, where it has some."""
    notes = [part[name] for name in NOTE_COLUMNS if name in part.schema.names]

    def explain(place: int) -> Absent:
        said = next((str(note[place]) for note in notes if note[place].is_valid and str(note[place])), None)
        return Absent("has no image in the source" + (f", which says: {clean_text(said)}" if said else ""))

    return explain


def _split_image(value: pa.Scalar) -> tuple[Any, str | None]:
    """What an image column's value holds, and its path."""
    try:
        own = value.as_py()
    except ValueError as error:  # a path that is not UTF-8
        return Unreadable(f"its row cannot be read: {error}"), None
    return (own.get("bytes"), own.get("path")) if isinstance(own, dict) else (own, None)
