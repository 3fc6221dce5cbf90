"""The coarse stage on disk: Arrow files that any language can read, mapped to memory when an index is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.coarse.cells import Cells, Segment, decode
from nda_index.coarse.embedding import Embedding
from nda_index.coarse.ivf import Codec, load_faiss, new_index, pq_codes
from nda_index.errors import CorruptIndexError, MismatchError
from nda_index.scales import Scale
from nda_index.store.arrow import read_arrow, write_arrow

EMBEDDING = "embedding.arrow"
QUANTIZER = "quantizer.arrow"


def write_embedding(folder: Path, embedding: Embedding) -> None:
    """Write the directions: one row each, float64 [C * taps * taps]."""
    shape = embedding.directions.shape
    rows = pa.FixedSizeListArray.from_arrays(pa.array(embedding.directions.reshape(-1)), int(np.prod(shape[1:])))
    write_arrow(folder / EMBEDDING, {"direction": rows}, {"shape": list(shape)})


def read_embedding(folder: Path, scale: Scale) -> Embedding:
    """Read what `write_embedding` wrote."""
    batch, header = read_arrow(folder / EMBEDDING)
    return Embedding(scale, batch["direction"].flatten().to_numpy().reshape(header["shape"]))


def write_quantizer(folder: Path, index: Any, codec: Codec) -> None:
    """Write a trained FAISS index's cells: their centroids, one row each, and in the header the codebook."""
    centroids = index.quantizer.reconstruct_n(0, index.nlist)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(centroids.reshape(-1)), index.d)
    codebook = read_codebook(index, codec)
    header = {"codec": codec, "lists": index.nlist, "dimensions": index.d}
    header |= {"codebook": codebook.reshape(-1).tolist(), "codebook_rows": len(codebook)}
    write_arrow(folder / QUANTIZER, {"centroid": rows}, header)


def load_trained(folder: Path) -> Any:
    """An empty FAISS index with the cells and the codebook that `write_quantizer` wrote, ready to encode."""
    faiss = load_faiss()
    batch, header = read_arrow(folder / QUANTIZER)
    index = new_index(header["codec"], header["dimensions"], header["lists"])
    index.quantizer.add(np.ascontiguousarray(batch["centroid"].flatten().to_numpy().reshape(-1, index.d)))
    codebook = np.array(header["codebook"], np.float32).reshape(header["codebook_rows"], index.d)
    if header["codec"] == "sq8":
        span = codebook[1] * np.float32(255)
        trained = np.concatenate([codebook[0] - span * np.float32(0.5 / 255), span])
        faiss.copy_array_to_vector(trained, index.sq.trained)
    else:
        parts = codebook.reshape(256, index.pq.M, -1).transpose(1, 0, 2)  # [parts, 256, width]
        faiss.copy_array_to_vector(np.ascontiguousarray(parts).reshape(-1), index.pq.centroids)
    index.is_trained = True
    return index


def read_codebook(index: Any, codec: Codec) -> NDArray[np.float32]:
    """What a trained FAISS index's codes stand for, as `Cells.codebook`."""
    faiss = load_faiss()
    if codec == "sq8":
        low, span = faiss.vector_to_array(index.sq.trained).reshape(2, -1)  # [d] each
        return np.stack([low + span * np.float32(0.5 / 255), span / np.float32(255)])  # [2, d]
    parts = faiss.vector_to_array(index.pq.centroids).reshape(index.pq.M, 256, -1)  # [parts, 256, width]
    return np.ascontiguousarray(parts.transpose(1, 0, 2).reshape(256, -1))  # [256, d]


def write_lists(path: Path, index: Any, codec: Codec) -> None:
    """Write the inverted lists of a FAISS index as one segment."""
    faiss = load_faiss()
    lists = index.invlists
    sizes = np.array([lists.list_size(i) for i in range(lists.nlist)], np.int64)
    image_ids = np.empty(sizes.sum(), np.int32)
    codes = np.empty((sizes.sum(), lists.code_size), np.uint8)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    means, variances = (np.zeros((lists.nlist, index.d)) for _ in range(2))
    centroids, codebook = index.quantizer.reconstruct_n(0, index.nlist), read_codebook(index, codec)
    for i in np.flatnonzero(sizes).tolist():
        here = slice(offsets[i], offsets[i + 1])
        image_ids[here] = faiss.rev_swig_ptr(lists.get_ids(i), int(sizes[i]))
        codes[here] = faiss.rev_swig_ptr(lists.get_codes(i), int(sizes[i]) * lists.code_size).reshape(sizes[i], -1)
        members = decode(codes[here], centroids[i], codebook).astype(np.float64)  # [n, d]
        means[i], variances[i] = members.mean(axis=0), members.var(axis=0)
    write_segment(path, Segment(offsets, codes, image_ids, means, variances))


def write_segment(path: Path, segment: Segment) -> None:
    """Write a segment: a row for each cell."""
    code_size, dimensions = segment.codes.shape[1], segment.means.shape[1]
    columns = {
        "image_ids": pa.LargeListArray.from_arrays(segment.offsets, segment.image_ids),
        "codes": pa.LargeListArray.from_arrays(segment.offsets * code_size, segment.codes.reshape(-1)),
        "mean": pa.FixedSizeListArray.from_arrays(pa.array(segment.means.reshape(-1)), dimensions),
        "variance": pa.FixedSizeListArray.from_arrays(pa.array(segment.variances.reshape(-1)), dimensions),
    }
    write_arrow(path, columns, {"code_size": code_size, "digest": _digest(segment)})


def read_segment(path: Path, dimensions: int) -> Segment:
    """A segment that `write_segment` wrote, mapped to memory.

    Raises:
        CorruptIndexError: it cannot be read, or where the lists begin or their moments were changed.
    """
    batch, header = read_arrow(path)
    try:
        means, variances = (batch[name].flatten().to_numpy().reshape(-1, dimensions) for name in ("mean", "variance"))
        segment = Segment(
            batch["image_ids"].offsets.to_numpy(),
            batch["codes"].flatten().to_numpy().reshape(-1, header["code_size"]),
            batch["image_ids"].flatten().to_numpy(),
            means,
            variances,
        )
        intact = header["digest"] == _digest(segment) and len(segment.codes) == len(segment.image_ids)
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise CorruptIndexError(f"{path.name} cannot be read: {error}; restore the index from a copy") from error
    if not intact:
        raise CorruptIndexError(f"{path.name} was changed after the build; restore the index from a copy")
    return segment


def _digest(segment: Segment) -> str:
    """Of all but the members: a member that is wrong moves one vote, a cell that is wrong moves many."""
    digest = hashlib.sha256()
    for part in (segment.offsets, segment.means, segment.variances):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def read_cells(folder: Path, scale: Scale, stride: int, segments: Sequence[str]) -> Cells:
    """Open the coarse stage of one scale.

    Args:
        folder: of the scale.
        scale: the scale.
        stride: of its build.
        segments: names of its list files.

    Raises:
        MismatchError: the files are of different builds.
        CorruptIndexError: a file cannot be read.
    """
    embedding = read_embedding(folder, scale)
    batch, header = read_arrow(folder / QUANTIZER)
    dimensions = header["dimensions"]
    if embedding.dimensions != dimensions:
        raise MismatchError(
            f"{folder.name}: the embedding has {embedding.dimensions} dimensions, the quantizer {dimensions}; "
            f"they are of different builds, build the index again"
        )
    codebook = np.array(header["codebook"], np.float32).reshape(header["codebook_rows"], dimensions)
    code_size = dimensions if header["codec"] == "sq8" else pq_codes(dimensions)
    centroids = batch["centroid"].flatten().to_numpy().reshape(-1, dimensions)
    opened = []
    for name in sorted(segments):
        segment = read_segment(folder / name, dimensions)
        if len(segment.offsets) != len(centroids) + 1 or segment.codes.shape[1] != code_size:
            raise MismatchError(
                f"{name} has {len(segment.offsets) - 1} lists with codes of {segment.codes.shape[1]} bytes, the "
                f"quantizer {len(centroids)} and {code_size}; they are of different builds, build the index again"
            )
        opened.append(segment)
    return Cells(embedding, stride, centroids, codebook, tuple(opened))
