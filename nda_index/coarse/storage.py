"""The coarse stage on disk: Arrow files that any language can read, from which FAISS indexes are rebuilt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.coarse.ivf import CoarseIndex, Codec, load_faiss, new_index
from nda_index.embedding import Embedding
from nda_index.errors import CorruptIndexError, MismatchError
from nda_index.manifest import writing
from nda_index.scales import Scale

EMBEDDING = "embedding.arrow"
QUANTIZER = "quantizer.arrow"


def write_embedding(folder: Path, embedding: Embedding) -> None:
    """Write the directions: one row each, float64 [C * taps * taps]."""
    shape = embedding.directions.shape
    rows = pa.FixedSizeListArray.from_arrays(pa.array(embedding.directions.reshape(-1)), int(np.prod(shape[1:])))
    _write(folder / EMBEDDING, {"direction": rows}, {"shape": list(shape)})


def read_embedding(folder: Path, scale: Scale) -> Embedding:
    """Read what `write_embedding` wrote."""
    batch, header = _read(folder / EMBEDDING)
    return Embedding(scale, batch["direction"].flatten().to_numpy().reshape(header["shape"]))


def write_quantizer(folder: Path, index: Any, codec: Codec) -> None:
    """Write the lists' centroids, one row each, and the codec's codebook as a list in the header row."""
    faiss = load_faiss()
    centroids = index.quantizer.reconstruct_n(0, index.nlist)
    if codec == "sq8":
        codebook = faiss.vector_to_array(index.sq.trained)
    elif codec == "pq":
        codebook = faiss.vector_to_array(index.pq.centroids)
    else:
        codebook = np.empty(0, np.float32)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(centroids.reshape(-1)), index.d)
    header = {"codec": codec, "lists": index.nlist, "dimensions": index.d, "codebook": [float(v) for v in codebook]}
    _write(folder / QUANTIZER, {"centroid": rows}, header)


def read_quantizer(folder: Path) -> Any:
    """A FAISS index, trained and empty, from what `write_quantizer` wrote."""
    faiss = load_faiss()
    batch, header = _read(folder / QUANTIZER)
    index = new_index(header["codec"], header["dimensions"], header["lists"])
    index.quantizer.add(np.ascontiguousarray(batch["centroid"].flatten().to_numpy().reshape(-1, index.d)))
    codebook = np.array(header["codebook"], np.float32)
    if header["codec"] == "sq8":
        faiss.copy_array_to_vector(codebook, index.sq.trained)
    elif header["codec"] == "pq":
        faiss.copy_array_to_vector(codebook, index.pq.centroids)
        index.precompute_table()
    index.is_trained = True
    return index


def write_lists(path: Path, index: Any) -> None:
    """Write the inverted lists of a FAISS index as one segment: a row for each list, its patch ids and its codes."""
    faiss = load_faiss()
    lists = index.invlists
    sizes = np.array([lists.list_size(i) for i in range(lists.nlist)], np.int64)
    ids = np.empty(sizes.sum(), np.int64)
    codes = np.empty((sizes.sum(), lists.code_size), np.uint8)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    for i in np.flatnonzero(sizes).tolist():
        here = slice(offsets[i], offsets[i + 1])
        ids[here] = faiss.rev_swig_ptr(lists.get_ids(i), int(sizes[i]))
        codes[here] = faiss.rev_swig_ptr(lists.get_codes(i), int(sizes[i]) * lists.code_size).reshape(sizes[i], -1)
    columns = {
        "patch_ids": pa.LargeListArray.from_arrays(offsets, ids),
        "codes": pa.LargeListArray.from_arrays(offsets * lists.code_size, codes.reshape(-1)),
    }
    _write(path, columns, {"code_size": int(lists.code_size)})


def read_lists(path: Path, index: Any) -> None:
    """Add a segment that `write_lists` wrote to a FAISS index.

    Raises:
        MismatchError: the segment was written for another quantizer.
        CorruptIndexError: it cannot be read.
    """
    faiss = load_faiss()
    batch, header = _read(path)
    if batch.num_rows != index.nlist or header["code_size"] != index.code_size:
        raise MismatchError(
            f"{path.name} has {batch.num_rows} lists with codes of {header['code_size']} bytes, the quantizer "
            f"{index.nlist} and {index.code_size}; they are of different builds, build the index again"
        )
    ids, codes = batch["patch_ids"].flatten().to_numpy(), batch["codes"].flatten().to_numpy()
    offsets = batch["patch_ids"].offsets.to_numpy()
    for i in np.flatnonzero(np.diff(offsets)).tolist():
        first, last = int(offsets[i]), int(offsets[i + 1])
        index.invlists.add_entries(
            i,
            last - first,
            faiss.swig_ptr(ids[first:last]),
            faiss.swig_ptr(codes[first * index.code_size : last * index.code_size]),
        )
    index.ntotal += len(ids)


def list_segments(folder: Path) -> Iterator[Path]:
    """The segments of a scale's folder, in the order in which they were written."""
    yield from sorted(folder.glob("lists-*.arrow"))


def read_coarse(folder: Path, scale: Scale, patches_per_image: int, stride: int) -> CoarseIndex:
    """Rebuild the coarse stage of one scale from its folder; the numbers are those of its build."""
    index = read_quantizer(folder)
    for path in list_segments(folder):
        read_lists(path, index)
    embedding = read_embedding(folder, scale)
    if embedding.dimensions != index.d:
        raise MismatchError(
            f"{folder.name}: the embedding has {embedding.dimensions} dimensions, the quantizer {index.d}; "
            f"they are of different builds, build the index again"
        )
    return CoarseIndex(embedding, index, patches_per_image, stride)


def _write(path: Path, columns: dict[str, NDArray[Any] | pa.Array], header: dict[str, Any]) -> None:
    batch = pa.record_batch(columns)
    batch = batch.replace_schema_metadata({"nda_index": json.dumps(header)})
    with writing(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _read(path: Path) -> tuple[pa.RecordBatch, dict[str, Any]]:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return reader.get_batch(0), json.loads(reader.schema.metadata[b"nda_index"])
    except (OSError, pa.ArrowInvalid, KeyError, ValueError, TypeError) as error:
        raise CorruptIndexError(f"{path.name} cannot be read: {error}; restore the index, or build it again") from error
