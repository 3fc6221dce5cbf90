"""Arrow IPC files of one record batch, with a JSON object in the schema's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from nda_index.errors import CorruptIndexError, find_remedy
from nda_index.store.files import writing


def write_arrow(path: Path, columns: dict[str, NDArray[Any] | pa.Array], header: dict[str, Any]) -> None:
    """Write columns of one length and a header.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    batch = pa.record_batch(columns)
    batch = batch.replace_schema_metadata({"nda_index": json.dumps(header)})
    with writing(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_arrow(path: Path) -> tuple[pa.RecordBatch, dict[str, Any]]:
    """Map to memory what `write_arrow` wrote.

    Raises:
        CorruptIndexError: it cannot be read.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return reader.get_batch(0), json.loads(reader.schema.metadata[b"nda_index"])
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, MemoryError) as error:
        remedy = find_remedy(error, "restore the index, or build it again")
        raise CorruptIndexError(f"{path.name} cannot be read: {error}; {remedy}") from error
