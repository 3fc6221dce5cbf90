"""The coarse stage on disk: Arrow files that any language can read, mapped to memory when an index is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.coarse.cells import Cells, Segment
from nda_index.coarse.embedding import Embedding
from nda_index.coarse.ivf import Codec, pq_codes
from nda_index.errors import CorruptIndexError, MismatchError
from nda_index.scales import Scale
from nda_index.store.arrow import read_arrow, write_arrow
from nda_index.store.manifest import Manifest

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


def write_quantizer(folder: Path, centroids: NDArray[np.float32], codec: Codec, codebook: NDArray[np.float32]) -> None:
    """Write trained cells: their centroids float32 [C, d], one row each, and in the header the codebook."""
    lists, dimensions = centroids.shape
    rows = pa.FixedSizeListArray.from_arrays(pa.array(centroids.reshape(-1)), dimensions)
    header = {"codec": codec, "lists": lists, "dimensions": dimensions}
    header |= {"codebook": codebook.reshape(-1).tolist(), "codebook_rows": len(codebook)}
    write_arrow(folder / QUANTIZER, {"centroid": rows}, header)


def read_quantizer(folder: Path) -> tuple[NDArray[np.float32], Codec, NDArray[np.float32]]:
    """Read centroids, codec and codebook, as `write_quantizer` takes them."""
    batch, header = read_arrow(folder / QUANTIZER)
    centroids = batch["centroid"].flatten().to_numpy().reshape(-1, header["dimensions"])
    codebook = np.array(header["codebook"], np.float32).reshape(header["codebook_rows"], header["dimensions"])
    return centroids, header["codec"], codebook


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
    centroids, codec, codebook = read_quantizer(folder)
    dimensions = centroids.shape[1]
    if embedding.dimensions != dimensions:
        raise MismatchError(
            f"{folder.name}: the embedding has {embedding.dimensions} dimensions, the quantizer {dimensions}; "
            f"they are of different builds, build the index again"
        )
    code_size = dimensions if codec == "sq8" else pq_codes(dimensions)
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


def segment_name(scale: Scale, number: int) -> str:
    """Return the path of a segment in its index."""
    return f"scales/{scale.name}/lists-{number:05d}.arrow"


def segment_names(files: Iterable[str], scale: Scale) -> list[str]:
    """Return the names of a scale's segments, in its folder, among the files of an index; in order."""
    prefix = segment_name(scale, 0).rpartition("-")[0]
    return sorted(name.rpartition("/")[2] for name in files if name.startswith(prefix))


def is_segment(file: str) -> bool:
    """Tell whether a file of an index is a segment of some scale."""
    return "/lists-" in file


def open_coarse(folder: Path, manifest: Manifest) -> tuple[Cells, ...]:
    """Open the coarse stage of every scale of an index."""
    config = manifest.config
    return tuple(
        read_cells(
            folder / "scales" / scale.name, scale, config.coarse[scale.name].stride,
            segment_names(manifest.files, scale),
        )
        for scale in config.scales
    )  # fmt: skip
