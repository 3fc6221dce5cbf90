"""A whole answer in one Arrow file: another process that reads it has the same `Attribution`.

The file is an Arrow IPC stream of one record batch, a row for each image, followed by the 32 bytes of its sha256. Any
Arrow reader opens it; this one also finds a changed byte. docs/format.md has its columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.answer.data import AnswerData
from nda_index.answer.region import read_region
from nda_index.errors import AnswerFormatError, VersionError
from nda_index.scales import Scale

FORMAT_VERSION = LATENTS_VERSION = 2  # an answer about a picture is of version 1, which older readers know
MEDIA_TYPE = "application/vnd.apache.arrow.stream"

_DIGEST_BYTES = 32
_METADATA = "metadata."
_NUMBERS = ("image_ids", "scores", "shares", "evidence", "percentiles", "groups", "score_errors", "draw_errors")
_SINGLE = (
    "null_pictures", "mass_covered", "mass_error", "scored", "collection", "missing", "settings", "index_hash",
    "version", "seconds",
)  # fmt: skip


def answer_bytes(answer: AnswerData) -> bytes:
    """Write an answer as the content of an Arrow file.

    Example:
        >>> import tempfile, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> index = nda.build_index(images, tempfile.mkdtemp() + "/noise.nda", image_size=16, scales=[nda.Scale(5)])
        >>> answer = index.attribute(images[7], timestep=50, top=3)
        >>> nda.read_answer(answer_bytes(answer)).keys == answer.keys
        True
    """
    columns: dict[str, Any] = {name: pa.array(getattr(answer, name)) for name in _NUMBERS}
    columns["keys"] = pa.array(answer.keys, pa.string())
    columns["images"] = _lists(answer.images)
    columns["query_maps"] = _lists(answer.query_maps.swapaxes(0, 1))
    columns["train_maps"] = _lists(answer.train_maps.swapaxes(0, 1))
    metadata = answer.metadata.combine_chunks()
    table = pa.table(
        [*columns.values(), *metadata.columns], [*columns, *(_METADATA + name for name in metadata.column_names)]
    )
    single = {name: getattr(answer, name) for name in _SINGLE}
    single |= {"format_version": LATENTS_VERSION if answer.latents else 1, "shape": answer.query.shape}
    single["values"] = str(answer.query.dtype)
    single["scales"] = [asdict(scale) for scale in answer.scales]
    single["picture_size"] = answer.picture_size
    single["regions"] = [region.as_json() for region in answer.regions]
    single["crop_bytes"] = [len(crop) for crop in answer.crops]
    single["preview_bytes"] = [len(preview) for preview in answer.previews]
    single["positions"] = [len(normaliser) for normaliser in answer.log_normalisers]
    table = table.replace_schema_metadata(
        {
            "nda_index.answer": json.dumps(single),
            "nda_index.query": answer.query.tobytes(),
            "nda_index.picture": answer.picture,
            "nda_index.crops": b"".join(answer.crops),
            "nda_index.previews": b"".join(answer.previews),
            "nda_index.log_normalisers": np.concatenate(answer.log_normalisers).astype("<f8").tobytes(),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    stream = sink.getvalue().to_pybytes()
    return bytes(stream + hashlib.sha256(stream).digest())


def answer_fields(data: bytes, name: str) -> dict[str, Any]:
    """Read the fields of the `Attribution` in a file's content; messages call it `name`.

    Raises:
        AnswerFormatError: it is not such a file, or a byte of it was changed.
        VersionError: a newer nda_index wrote it.
    """
    stream, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(stream).digest() != digest:
        raise AnswerFormatError(
            f"{name} is not a whole answer of nda_index: its sha256 does not fit; save the answer again"
        )
    try:
        table = pa.ipc.open_stream(stream).read_all()
        facts = {key.decode().removeprefix("nda_index."): value for key, value in table.schema.metadata.items()}
        single = json.loads(facts["answer"])
        if single["format_version"] > FORMAT_VERSION:
            raise VersionError(
                f"{name} has format version {single['format_version']}, this nda_index reads answers up to format "
                f"version {FORMAT_VERSION}; upgrade nda_index (the answer was written by version {single['version']})"
            )
        return _fields(table, single, facts)
    except (pa.ArrowException, KeyError, TypeError, AttributeError, ValueError) as error:
        raise AnswerFormatError(f"{name} is not an answer of nda_index: {error!r}; save the answer again") from error


def _fields(table: pa.Table, single: dict[str, Any], facts: dict[str, bytes]) -> dict[str, Any]:
    height, width, channels = single["shape"]
    top, scales = table.num_rows, tuple(Scale(**scale) for scale in single["scales"])
    fields: dict[str, Any] = {name: single[name] for name in _SINGLE}
    fields |= {name: table[name].to_numpy() for name in _NUMBERS}
    fields["scales"] = scales
    fields["regions"] = tuple(read_region(values) for values in single.get("regions", ()))
    fields["picture"] = facts.get("picture", b"")
    fields["crops"] = _cut(facts.get("crops", b""), single.get("crop_bytes", ()))
    fields["previews"] = _cut(facts.get("previews", b""), single.get("preview_bytes", ()))
    fields["picture_size"] = tuple(single["picture_size"]) if single.get("picture_size") else None
    fields["keys"] = tuple(table["keys"].to_pylist())
    fields["images"] = _array(table["images"], (top, height, width, channels))
    for name in ("query_maps", "train_maps"):
        fields[name] = _array(table[name], (top, len(scales), height, width)).swapaxes(0, 1)
    values = np.dtype(single.get("values", "uint8"))
    fields["query"] = np.frombuffer(facts["query"], values).reshape(height, width, channels)
    normalisers = np.frombuffer(facts["log_normalisers"], "<f8")
    fields["log_normalisers"] = tuple(np.split(normalisers, np.cumsum(single["positions"])[:-1]))
    names = [name for name in table.column_names if name.startswith(_METADATA)]
    bare = table.select(names).rename_columns([name.removeprefix(_METADATA) for name in names])
    fields["metadata"] = bare.replace_schema_metadata(None)
    return fields


def _cut(data: bytes, lengths: Sequence[int]) -> tuple[bytes, ...]:
    """Cut files that were put together apart again."""
    ends = np.cumsum([0, *lengths]).tolist()
    return tuple(data[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True))


def _lists(rows: NDArray[Any]) -> pa.Array:
    """Flatten rows [n, ...] to lists of one length."""
    length = int(np.prod(rows.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), length)


def _array(column: pa.ChunkedArray, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.asarray(column.combine_chunks().flatten().to_numpy()).reshape(shape)
