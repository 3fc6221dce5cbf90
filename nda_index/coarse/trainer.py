"""FAISS, in its one place: it trains the cells of a scale by k-means and encodes patches into them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.coarse.assignment import Assigner, assign
from nda_index.coarse.cells import Segment, decode
from nda_index.coarse.ivf import POINTS_PER_LIST, Codec, pq_codes
from nda_index.coarse.storage import read_quantizer, write_quantizer, write_segment
from nda_index.errors import MissingDependencyError

KMEANS_ITERATIONS = 10  # more move the cells little and cost the training in proportion


class Encoder:
    """Trained cells of one scale, and the patches encoded into them since the last segment was written.

    Attributes:
        index: the FAISS index.
        codec: how a patch is coded.
    """

    def __init__(self, index: Any, codec: Codec) -> None:
        """Take over a trained FAISS index; `train_encoder` and `read_encoder` make one."""
        self.index = index
        self.codec = codec

    @property
    def code_size(self) -> int:
        """Bytes of a coded patch."""
        return int(self.index.code_size)

    @property
    def centroids(self) -> NDArray[np.float32]:
        """Of the cells, float32 [C, d]."""
        return np.asarray(self.index.quantizer.reconstruct_n(0, self.index.nlist), np.float32)

    @property
    def codebook(self) -> NDArray[np.float32]:
        """What codes stand for, as `nda_index.coarse.cells.Cells.codebook`."""
        faiss, index = load_faiss(), self.index
        if self.codec == "sq8":
            low, span = faiss.vector_to_array(index.sq.trained).reshape(2, -1)  # [d] each
            return np.stack([low + span * np.float32(0.5 / 255), span / np.float32(255)])  # [2, d]
        parts = faiss.vector_to_array(index.pq.centroids).reshape(index.pq.M, 256, -1)  # [parts, 256, width]
        return np.ascontiguousarray(parts.transpose(1, 0, 2).reshape(256, -1))  # [256, d]

    def add(self, patches: NDArray[np.float32], image_ids: NDArray[np.int64]) -> None:
        """Encode embedded patches float32 [n, d] of images int64 [n] into their cells."""
        self.index.add_with_ids(patches, image_ids)

    def write(self, path: Path) -> None:
        """Write what was encoded as one segment, and start over with empty cells.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        write_segment(path, self.segment())
        self.index.reset()

    def segment(self) -> Segment:
        """Return what was encoded, with the moments of each cell."""
        faiss, lists = load_faiss(), self.index.invlists
        sizes = np.array([lists.list_size(i) for i in range(lists.nlist)], np.int64)
        image_ids = np.empty(sizes.sum(), np.int32)
        codes = np.empty((sizes.sum(), lists.code_size), np.uint8)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        centroids, codebook = self.centroids, self.codebook
        means, variances = (np.zeros(centroids.shape) for _ in range(2))
        for i in np.flatnonzero(sizes).tolist():
            here = slice(offsets[i], offsets[i + 1])
            image_ids[here] = faiss.rev_swig_ptr(lists.get_ids(i), int(sizes[i]))
            codes[here] = faiss.rev_swig_ptr(lists.get_codes(i), int(sizes[i]) * lists.code_size).reshape(sizes[i], -1)
            members = decode(codes[here], centroids[i], codebook).astype(np.float64)  # [n, d]
            means[i], variances[i] = members.mean(axis=0), members.var(axis=0)
        return Segment(offsets, codes, image_ids, means, variances)


def train_encoder(patches: NDArray[np.float32], codec: Codec, lists: int, *, gpu: bool = False) -> Encoder:
    """Train cells and codes on embedded patches.

    Args:
        patches: float32 [n, d], a sample; `POINTS_PER_LIST` for each list are used.
        codec: how patches are coded.
        lists: number of cells.
        gpu: whether FAISS may use a GPU, where it can. Cells are then the same but for rounding.

    Raises:
        MissingDependencyError: FAISS is not installed.

    Example:
        >>> patches = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
        >>> train_encoder(patches, "sq8", 4).centroids.shape
        (4, 8)
    """
    index = _new_index(codec, patches.shape[1], lists)
    if gpu and faiss_has_gpu():
        clustering = _move_to_gpu(load_faiss().IndexFlatL2(patches.shape[1]))  # FAISS has a pointer to it
        index.clustering_index = clustering
        index.train(patches)
        index.clustering_index = None
    else:
        index.train(patches)
    return Encoder(index, codec)


def write_encoder(folder: Path, encoder: Encoder) -> None:
    """Write trained cells into a scale's folder.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    write_quantizer(folder, encoder.centroids, encoder.codec, encoder.codebook)


def read_encoder(folder: Path) -> Encoder:
    """Read the cells that `write_encoder` wrote, ready to encode.

    Raises:
        CorruptIndexError: they cannot be read.
        MissingDependencyError: FAISS is not installed.
    """
    faiss = load_faiss()
    centroids, codec, codebook = read_quantizer(folder)
    index = _new_index(codec, centroids.shape[1], len(centroids))
    index.quantizer.add(np.ascontiguousarray(centroids))
    if codec == "sq8":
        span = codebook[1] * np.float32(255)
        faiss.copy_array_to_vector(np.concatenate([codebook[0] - span * np.float32(0.5 / 255), span]), index.sq.trained)
    else:
        parts = codebook.reshape(256, index.pq.M, -1).transpose(1, 0, 2)  # [parts, 256, width]
        faiss.copy_array_to_vector(np.ascontiguousarray(parts).reshape(-1), index.pq.centroids)
    index.is_trained = True
    return Encoder(index, codec)


def time_assignment(patches: NDArray[np.float32], cells: int) -> float:
    """Measure how long it takes to find a patch's cell, in seconds.

    Args:
        patches: float32 [n, d], which stand for the cells too.
        cells: their number.
    """
    quantizer = load_faiss().IndexFlatL2(patches.shape[1])
    quantizer.add(np.random.default_rng(0).choice(patches, cells))
    quantizer.search(patches[:64], 1)  # the first call is slower than any other
    some = patches[:4096]
    start = time.perf_counter()
    quantizer.search(some, 1)
    return (time.perf_counter() - start) / len(some)


def find_assigner() -> Assigner:
    """Return what finds the cells of patches on a GPU: FAISS where it can use one, else torch."""
    if not faiss_has_gpu():
        return assign
    kept: list[tuple[Tensor, Any]] = []  # the centroids that were asked for last, and FAISS's index of them

    def find(patches: Tensor, centroids: Tensor) -> Tensor:
        if not kept or kept[0][0] is not centroids:
            flat = load_faiss().IndexFlatL2(centroids.shape[1])
            flat.add(centroids.cpu().numpy())
            kept[:] = [(centroids, _move_to_gpu(flat))]
        _, cells = kept[0][1].search(patches.cpu().numpy(), 1)
        return torch.from_numpy(cells[:, 0]).to(patches.device)

    return find


def faiss_has_gpu() -> bool:
    """Tell whether the installed FAISS was built for GPUs, and sees one."""
    faiss = load_faiss()
    return hasattr(faiss, "StandardGpuResources") and int(faiss.get_num_gpus()) > 0


def _move_to_gpu(index: Any) -> Any:
    """Copy an index to the first GPU."""
    faiss = load_faiss()
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def check_faiss() -> None:
    """Raise `MissingDependencyError` where FAISS is not installed."""
    load_faiss()


def load_faiss() -> Any:
    """Return the faiss module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError("FAISS is not installed; run: pip install 'nda-index[cpu]'") from error
    except RuntimeError as error:  # faiss-gpu without its CUDA libraries
        said = str(error).strip().partition("\n")[0]
        raise MissingDependencyError(
            f"FAISS cannot be loaded: {said}; install faiss-gpu again with all that it requires, or faiss-cpu"
        ) from error
    return faiss


def _new_index(codec: Codec, dimensions: int, lists: int) -> Any:
    """An untrained FAISS index."""
    faiss = load_faiss()
    quantizer = faiss.IndexFlatL2(dimensions)
    if codec == "sq8":
        index = faiss.IndexIVFScalarQuantizer(quantizer, dimensions, lists, faiss.ScalarQuantizer.QT_8bit)
    else:
        index = faiss.IndexIVFPQ(quantizer, dimensions, lists, pq_codes(dimensions), 8)
    # The FAISS index owns a pointer to the quantizer, Python's object must not free it.
    quantizer.this.disown()
    index.own_fields = True
    index.cp.niter = KMEANS_ITERATIONS
    index.cp.max_points_per_centroid = POINTS_PER_LIST
    return index
