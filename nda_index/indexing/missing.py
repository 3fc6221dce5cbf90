"""What a source has and its index lacks: images that could not be read, and what else was left out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nda_index.sources import Failure
from nda_index.store.files import writing
from nda_index.store.manifest import Manifest, read_manifest

UNREADABLE, LEFT_OUT = "unreadable", "left out"  # kinds of rows
SHOWN = 10  # of what is missing, in a summary
SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string()), ("kind", pa.string())])


def write_failures(path: Path, failures: Sequence[Failure], left_out: Sequence[Failure]) -> None:
    """Write the images that could not be read, and what else of the source was left out, to a Parquet file.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    kinds = [UNREADABLE] * len(failures) + [LEFT_OUT] * len(left_out)
    every = [*failures, *left_out]
    table = pa.table([[one.key for one in every], [one.reason for one in every], kinds], schema=SCHEMA)
    with writing(path):
        pq.write_table(table, path)


def list_first(failures: Sequence[Failure], left_out: Sequence[Failure]) -> tuple[tuple[str, str], ...]:
    """Return key and reason of the first of what is missing, for a summary."""
    return tuple((one.key, one.reason) for one in [*failures, *left_out][:SHOWN])


def count_missing(failures: int, left_out: int) -> str:
    """Say how much is missing, or "" where nothing is.

    Example:
        >>> count_missing(1, 3)
        '1 image could not be read and 3 other things were left out'
    """
    parts = [f"{failures:,} image{'s' * (failures != 1)} could not be read"] if failures else []
    if left_out:
        parts.append(f"{left_out:,} other thing{'s were' if left_out != 1 else ' was'} left out")
    return " and ".join(parts)


def warn_of_missing(failures: int, left_out: int, first: Sequence[tuple[str, str]]) -> None:
    """Warn whoever called the function that called this, where anything is missing."""
    if first:
        key, reason = first[0]
        said = count_missing(failures, left_out)
        warnings.warn(f"{said}; Index.missing() lists all; the first: {key}: {reason}", stacklevel=3)


def read_missing(folder: Path, manifest: Manifest) -> pa.Table:
    """Read what an index lacks of its sources: `key`, `reason` and `kind`, "unreadable" or "left out".

    Args:
        folder: of the index.
        manifest: of it; one that names shards has theirs.
    """
    tables = [SCHEMA.empty_table()]
    for name in manifest.shards:
        tables.append(read_missing(folder / name, read_manifest(folder / name)))
    for name in sorted(manifest.files):
        if name.startswith("failures") and name.endswith(".parquet"):
            table = pq.read_table(folder / name)
            if "kind" not in table.column_names:  # of an index of version 0.1.0
                table = table.append_column("kind", pa.array([UNREADABLE] * len(table), pa.string()))
            tables.append(table.select(SCHEMA.names))
    return pa.concat_tables(tables)
