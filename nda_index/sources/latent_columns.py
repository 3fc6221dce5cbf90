"""Columns of latents in tables: nested lists of floats, or Arrow's tensors of a fixed shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nda_index.errors import ConfigError, SourceError
from nda_index.sources.base import Unreadable, to_text
from nda_index.sources.metadata import choose_likely

LATENT_COLUMNS = ("latents", "latent", "z", "vae_latent", "vae_latents")  # of several, the first of these
_AXES = (3, 4)  # [C, H, W], or [1, C, H, W]


def list_latent_columns(schema: pa.Schema) -> list[str]:
    """List the columns that may hold latents: floats in three lists or four, or tensors of a fixed shape.

    Example:
        >>> nested = pa.list_(pa.list_(pa.list_(pa.float16(), 8), 8), 4)
        >>> list_latent_columns(pa.schema([("latent", nested), ("embedding", pa.list_(pa.float32(), 8))]))
        ['latent']
    """
    return [field.name for field in schema if _count_axes(field.type) in _AXES]


def choose_latent_column(schema: pa.Schema, wanted: str | None, path: Path) -> str:
    """Return the column that holds the latents: the one that is wanted, or the one that its name and type tell.

    Args:
        schema: of the files.
        wanted: its name, or None.
        path: of a file, for messages.

    Raises:
        ConfigError: the wanted column holds no latents.
        SourceError: no column does, or several do.

    Example:
        >>> nested = pa.list_(pa.list_(pa.list_(pa.float16())))
        >>> choose_latent_column(pa.schema([("a", nested)]), None, Path("a.parquet"))
        'a'
    """
    found = list_latent_columns(schema)
    known = ", ".join(found) or "none"
    if wanted is not None:
        if wanted not in found:
            raise ConfigError(f"image_column is {wanted!r}, but in {path.name!r} the columns of latents are: {known}")
        return wanted
    likely = [name for name in LATENT_COLUMNS if name in found] or found
    if not likely:
        raise SourceError(
            f"{to_text(path)!r} has no column of latents; it has {', '.join(schema.names)}. Write them as nested lists "
            f"[C][H][W] of floats, or as Arrow's fixed_shape_tensor: a flat list does not say their shape"
        )
    return choose_likely(likely, LATENT_COLUMNS, "latents", path)


def read_latents(column: pa.Array) -> list[NDArray[Any] | Unreadable]:
    """Read the latents of some rows, as arrays [C, H, W] or [1, C, H, W].

    Example:
        >>> [latent.shape for latent in read_latents(pa.array([[[[1.0, 2.0]]]]))]
        [(1, 1, 2)]
    """
    if isinstance(column, pa.FixedShapeTensorArray):
        if column.null_count == 0:
            return list(column.to_numpy_ndarray())
        rows = [column.slice(place, 1) for place in range(len(column))]
        return [_missing() if row.null_count else row.to_numpy_ndarray()[0] for row in rows]
    lists = column.storage if isinstance(column, pa.ExtensionArray) else column
    return [_read_lists(lists.slice(place, 1)) for place in range(len(lists))]


def _read_lists(row: pa.Array) -> NDArray[Any] | Unreadable:
    """Read one row of nested lists, whose lengths must agree."""
    shape: list[int] = []
    values = row
    while _is_list(values.type):
        if values.null_count:
            return _missing()
        lengths = set(pc.list_value_length(values).to_pylist())
        if len(lengths) != 1:
            return Unreadable("its lists are of different lengths; a latent is [C][H][W]")
        shape.append(int(lengths.pop() or 0))
        values = values.flatten()
    if values.null_count:
        return _missing()
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


def _missing() -> Unreadable:
    return Unreadable("the source holds no numbers for it, or not all")


def _count_axes(kind: pa.DataType) -> int:
    """Count the axes of a column's arrays of floats; 0 where it holds something else."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape) if pa.types.is_floating(kind.value_type) else 0
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    axes = 0
    while _is_list(kind):
        axes, kind = axes + 1, kind.value_type
    return axes if pa.types.is_floating(kind) else 0


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
