"""Parquet files with an image column: a struct with `bytes` (and `path`), as Hugging Face writes it, or binary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nda_index.errors import SourceError
from nda_index.images import ValueRange
from nda_index.sources.base import CHUNK, OpenSource, RawImage, Unreadable, to_text

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "bytes")  # of several binary columns, the first of these
KEY_COLUMNS = ("key", "path", "id", "file_name", "filename")  # of several string columns, the first of these


def open_parquet(paths: list[Path]) -> OpenSource:
    """Open Parquet files of the same columns. Their rows are read in order, a few at a time.

    An image's key is the path in its struct, else its value in a key column, else its file's name and its row. Columns
    that are neither nested nor binary are metadata.

    Args:
        paths: of the files, one or more.

    Raises:
        SourceError: a file is not Parquet, the columns differ, or none holds images.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "set.parquet")
        >>> pq.write_table(pa.table({"image": [b"", b""], "year": [1999, 2001]}), path)
        >>> [(image.key, image.metadata) for image in open_parquet([path]).read()]
        [('set-00000000', {'year': 1999}), ('set-00000001', {'year': 2001})]
    """
    schema = _read_common_schema(paths)

    def read_rows(columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | Unreadable]]:
        for path in paths:
            for number, row in enumerate(_read_file(path, list(columns))):
                yield f"{to_text(path.stem)}-{number:08d}", row

    count = sum(pq.read_metadata(path).num_rows for path in paths)
    return open_rows("parquet", repr(to_text(paths[0])), count, schema, read_rows)


def open_rows(
    kind: str,
    name: str,
    count: int,
    schema: pa.Schema,
    read_rows: Callable[[Sequence[str]], Iterator[tuple[str, dict[str, Any] | Unreadable]]],
    value_range: ValueRange | None = None,
) -> OpenSource:
    """Open rows of a table, wherever they lie: find the columns of the images, of the keys and of the metadata.

    Args:
        kind: of the source.
        name: of it, in messages.
        count: number of rows.
        schema: of the table.
        read_rows: gives for the columns that are wanted a name and the values of each row.
        value_range: as for `open_source`.

    Raises:
        SourceError: no column holds images.
    """
    image = find_image_column(schema)
    if image is None:
        raise SourceError(f"{name} has no image column (a struct with bytes, or binary); it has {schema.names}")
    key = find_key_column(schema)
    metadata = [field for field in schema if field.name != image and _holds_plain_values(field.type)]

    def read() -> Iterator[RawImage]:
        for place, row in read_rows([image, *(field.name for field in metadata)]):
            if isinstance(row, Unreadable):
                yield RawImage(place, row, {})
                continue
            data, path = _split_image(row.pop(image))
            own = path or (row.get(key) if key else None)
            yield RawImage(own or place, data, row)

    fields = [pa.field(field.name, _decoded_type(field.type)) for field in metadata if field.name != "key"]
    return OpenSource(kind, count, pa.schema(fields), read, value_range=value_range)


def read_values(table: pa.Table | pa.RecordBatch) -> Iterator[dict[str, Any] | Unreadable]:
    """Read the rows of a table as values of Python; one whose values are damaged is unreadable."""
    try:
        yield from table.to_pylist()
    except (ValueError, pa.ArrowException):  # text that is not UTF-8, a date that Python has not
        for number in range(len(table)):
            try:
                yield from table.slice(number, 1).to_pylist()
            except (ValueError, pa.ArrowException) as error:
                yield Unreadable(f"its row holds a value that cannot be read: {error}")


def find_image_column(schema: pa.Schema) -> str | None:
    """Find the column that holds the images: the first struct with `bytes`, else a binary column, by its name.

    Example:
        >>> find_image_column(pa.schema([("mask", pa.binary()), ("image", pa.binary())]))
        'image'
    """
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    binary = [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    return next((name for name in IMAGE_COLUMNS if name in binary), binary[0] if binary else None)


def find_key_column(schema: pa.Schema) -> str | None:
    """Find the string column that holds the keys, by its name.

    Example:
        >>> find_key_column(pa.schema([("label", pa.string()), ("id", pa.string())]))
        'id'
    """
    return next(
        (name for name in KEY_COLUMNS if name in schema.names and pa.types.is_string(schema.field(name).type)), None
    )


def _read_common_schema(paths: list[Path]) -> pa.Schema:
    schemas = [_read_schema(path) for path in paths]
    for path, schema in zip(paths, schemas, strict=True):
        if not schema.equals(schemas[0]):
            raise SourceError(f"{str(path)!r} has other columns than {str(paths[0])!r}; build an index of each")
    return schemas[0]


def _read_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{str(path)!r} cannot be read as Parquet: {error}; check that it is complete") from error


def _read_file(path: Path, columns: list[str]) -> Iterator[dict[str, Any] | Unreadable]:
    """Read the rows of a file; where a part of it is damaged, each row of that part is unreadable."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            missing = file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(batch_size=CHUNK, row_groups=[group], columns=columns):
                    missing -= len(batch)
                    yield from read_values(batch)
            except (pa.ArrowException, OSError) as error:
                reason = f"this part of {to_text(path)!r} cannot be read: {error}; check that the file is complete"
                for _ in range(missing):
                    yield Unreadable(reason)


def _holds_plain_values(kind: pa.DataType) -> bool:
    others = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return not any(is_other(kind) for is_other in others)


def _decoded_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _split_image(value: Any) -> tuple[bytes | Path | None, str | None]:
    """Bytes and path of an image column's value."""
    if not isinstance(value, dict):
        return value, None
    return value.get("bytes"), value.get("path")
