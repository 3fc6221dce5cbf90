"""Metadata columns of a source: the names and types under which an index keeps them, and their values as Arrow.

A value that its column cannot hold makes its image a failure, and never ends a build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from nda_index.errors import ConfigError, SourceError
from nda_index.sources.base import to_text

OWN_COLUMNS = (
    "image_id",
    "key",
    "pixels",
    "sha256",
    "row_sha256",
    "nda_picture",
)  # of an index; metadata cannot take these names
_TAKEN = frozenset([*OWN_COLUMNS, "_rowid", "_rowaddr", "_rowoffset", "_distance", "_score"])  # by Lance too
_UNREADABLE = (ValueError, TypeError, OverflowError, pa.ArrowException)  # ArrowInvalid is a ValueError, too


def choose_likely(likely: Sequence[str], usual: Sequence[str], what: str, path: Path) -> str:
    """Return the first of the columns that may hold what is indexed.

    Args:
        likely: their names, at least one.
        usual: names of which the first is taken, also where others could be meant.
        what: they may hold, for the message.
        path: of the file.

    Raises:
        SourceError: several could be meant.

    Example:
        >>> choose_likely(["image", "mask"], ["image"], "images", Path("a.parquet"))
        'image'
    """
    if len(likely) > 1 and likely[0] not in usual:
        raise SourceError(
            f"{to_text(path)!r} has several columns that may hold the {what}: {', '.join(likely)}; say which with "
            f"image_column={likely[0]!r} (--image-column)"
        )
    return likely[0]


def name_columns(names: Iterable[str]) -> dict[str, str]:
    """Return the names under which an index keeps columns of these names: their own, where it can.

    Names of the index's own columns get "source_" before them; dots and back-quotes become "_"; a column without a name
    becomes "column". Where two would be the same, a number follows.

    Example:
        >>> name_columns(["year", "key", "license.name", ""])
        {'year': 'year', 'key': 'source_key', 'license.name': 'license_name', '': 'column'}
    """
    names = list(names)
    found = {name: name for name in names if _stored_name(name) == name}
    for name in names:
        if name not in found:
            base, number = _stored_name(name), 1
            wanted = base
            while wanted in found.values():
                number += 1
                wanted = f"{base}_{number}"
            found[name] = wanted
    return {name: found[name] for name in names}


def stored_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type in which an index keeps a column, or None where it cannot.

    Most are kept as they are, lists and structs too. Nanoseconds become microseconds, times in a zone become UTC, half
    floats become floats, dictionaries and views their values. Bytes, unions and intervals are not kept.

    Example:
        >>> stored_type(pa.list_(pa.timestamp("ns")))
        ListType(list<item: timestamp[us]>)
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return stored_type(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return stored_type(kind.value_type)
    if types.is_struct(kind):
        fields = [(field.name, stored_type(field.type)) for field in kind]
        return pa.struct(fields) if all(inner is not None for _, inner in fields) else None
    if types.is_map(kind):
        key, item = stored_type(kind.key_type), stored_type(kind.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if types.is_nested(kind):
        return _stored_list(kind)
    if types.is_timestamp(kind):
        return pa.timestamp("us" if kind.unit == "ns" else kind.unit, kind.tz and "UTC")
    if types.is_duration(kind):
        return pa.duration("us" if kind.unit == "ns" else kind.unit)
    if types.is_time64(kind):
        return pa.time64("us")
    if types.is_float16(kind):
        return pa.float32()
    if types.is_string_view(kind):
        return pa.string()
    plain = (types.is_primitive, types.is_string, types.is_large_string, types.is_decimal, types.is_null)
    return kind if any(fits(kind) for fits in plain) and not types.is_interval(kind) else None


def select_columns(
    schema: pa.Schema, columns: Sequence[str] | None, dropped: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Select metadata columns, in the order of the source.

    Args:
        schema: of the source.
        columns: names, in the source or in the index; all by default.
        dropped: other columns of the source, and why an index cannot keep them.

    Returns:
        For each column its name in the index.

    Raises:
        ConfigError: a column that is not there, or that cannot be kept.

    Example:
        >>> select_columns(pa.schema([("year", pa.int64()), ("key", pa.string())]), ["source_key"])
        {'key': 'source_key'}
    """
    stored = name_columns(schema.names)
    if isinstance(columns, str):
        raise ConfigError(f"columns is {columns!r}, one text; give a sequence of names, as [{columns!r}]")
    for name in columns or ():
        if dropped and name in dropped:
            raise ConfigError(f"the column {name!r} {dropped[name]}; leave it out of columns")
        if name not in stored and name not in stored.values():
            raise ConfigError(f"the source has no metadata column {name!r}; it has {', '.join(stored) or 'none'}")
    return {name: own for name, own in stored.items() if columns is None or name in columns or own in columns}


def read_values(column: pa.Array, kind: pa.DataType) -> list[Any]:
    """Return a column's values as Python has them, in the type in which an index keeps them; `Unheld` where it cannot.

    Args:
        column: of the source.
        kind: from `stored_type`.
    """
    try:
        if "list_view<" in str(column.type):  # Arrow's own cast of lists of views loses values
            return list(pa.array(column.to_pylist(), kind).to_pylist())
        return list(column.cast(kind, safe=False).to_pylist())
    except _UNREADABLE:
        return [_read_value(column.slice(place, 1), kind) for place in range(len(column))]


class Unheld:
    """A value that cannot be held; `text` shows it."""

    def __init__(self, text: str) -> None:
        """Keep its beginning."""
        self.text = text[:60]

    def __repr__(self) -> str:
        return self.text


def make_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> tuple[pa.Table, dict[int, str]]:
    """Put the metadata of images into columns. Half surrogates in text become U+FFFD.

    Args:
        rows: values by column, for each image; a value may be missing.
        schema: names and types of the columns.

    Returns:
        A table of a row for each image, but for those that hold a value which their column cannot hold; and why not,
        by the place of each of these.

    Example:
        >>> table, problems = make_table([{"n": 1}, {"n": 2**70}], pa.schema([("n", pa.int64())]))
        >>> table["n"].to_pylist(), problems
        ([1], {1: "its metadata column 'n' holds 1180591620717411303424, which int64 cannot hold"})
    """
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    try:
        arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
        return pa.table(arrays, schema=schema), {}
    except _UNREADABLE:
        problems: dict[int, str] = {}
    for name, values in columns.items():
        kind = schema.field(name).type
        for place, value in enumerate(values):
            values[place] = cleaned = _clean(value)
            try:
                pa.array([cleaned], kind)
            except _UNREADABLE:
                held = f"its metadata column {name!r} holds {_clean(repr(value)[:60])}, which {kind} cannot hold"
                problems.setdefault(place, held)
    kept = [row for place, row in enumerate(zip(*columns.values(), strict=True)) if place not in problems]
    arrays = {
        name: pa.array([row[number] for row in kept], schema.field(name).type)
        for number, name in enumerate(schema.names)
    }
    return pa.table(arrays, schema=schema), problems


def clean_text(text: str) -> str:
    """Return text that can be written as UTF-8: halves of surrogate pairs, which JSON may hold, become U+FFFD.

    Example:
        >>> clean_text("a\\ud800b"), clean_text("\\ud83d\\ude00") == "\\U0001f600"
        ('a\\ufffdb', True)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _stored_name(name: str) -> str:
    name = re.sub(r"[.`\x00]", "_", clean_text(name)) or "column"
    return f"source_{name}" if name in _TAKEN else name


def _stored_list(kind: pa.DataType) -> pa.DataType | None:
    types = pa.types
    known = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    inner = stored_type(kind.value_type) if any(fits(kind) for fits in known) else None
    if inner is None:
        return None
    if types.is_fixed_size_list(kind):
        return pa.list_(inner, kind.list_size)
    return pa.large_list(inner) if types.is_large_list(kind) or types.is_large_list_view(kind) else pa.list_(inner)


def _read_value(one: pa.Array, kind: pa.DataType) -> Any:
    try:
        return pa.array(one.to_pylist(), kind).to_pylist()[0]
    except _UNREADABLE:
        pass
    try:
        return one.cast(kind, safe=False).to_pylist()[0]
    except _UNREADABLE:
        return Unheld(" ".join(str(one).split()).strip("[ ]"))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {_clean(name): _clean(inner) for name, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value
