"""The nearest codes of a collection's windows: FAISS's inverted file over bytes, in cells that are trained once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.ivf import POINTS_PER_LIST, list_count
from nda_index.coarse.trainer import load_faiss

_ITERATIONS = 10  # of k-means: more move the cells little
_TOGETHER = 1 << 18  # codes that are made floats at a time
_SEED = 0


def train_centroids(codes: NDArray[np.uint8], windows: int) -> NDArray[np.float32]:
    """Train cells on a sample of codes.

    Args:
        codes: uint8 [n, d], at least one.
        windows: number of windows that the cells will hold; a power of two near 1.5 times its root are trained.

    Returns:
        float32 [C, d].

    Raises:
        MissingDependencyError: FAISS is not installed.
    """
    lists = min(list_count(windows), len(codes))
    wanted = min(len(codes), lists * POINTS_PER_LIST)
    chosen = np.random.default_rng(_SEED).choice(len(codes), wanted, replace=False)
    kmeans = load_faiss().Kmeans(
        codes.shape[1], lists, niter=_ITERATIONS, seed=_SEED, min_points_per_centroid=1, max_points_per_centroid=1 << 20
    )
    kmeans.train(codes[np.sort(chosen)].astype(np.float32))
    return np.asarray(kmeans.centroids, np.float32)


def assign_cells(codes: NDArray[np.uint8], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the nearest cell of each code: int32 [n]."""
    index = load_faiss().IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    parts = [codes[start : start + _TOGETHER] for start in range(0, len(codes), _TOGETHER)]
    cells = [index.search(part.astype(np.float32), 1)[1][:, 0].astype(np.int32) for part in parts]
    return np.concatenate([np.empty(0, np.int32), *cells])


class NeighbourLists:
    """Codes in their cells, to be searched."""

    def __init__(self, codes: NDArray[np.uint8], cells: NDArray[np.int32], centroids: NDArray[np.float32]) -> None:
        """Put codes uint8 [n, d] into their cells int32 [n]; the centroids are float32 [C, d]."""
        faiss = load_faiss()
        quantizer = faiss.IndexFlatL2(centroids.shape[1])
        quantizer.add(centroids)
        self._index = faiss.IndexIVFScalarQuantizer(
            quantizer, centroids.shape[1], len(centroids), faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2, False
        )
        self._index.is_trained = True  # bytes are kept as they are
        for start in range(0, len(codes), _TOGETHER):
            stop = min(start + _TOGETHER, len(codes))
            vectors = codes[start:stop].astype(np.float32)
            numbers, lists = np.arange(start, stop, dtype=np.int64), cells[start:stop].astype(np.int64)
            pointers = [faiss.swig_ptr(array) for array in (vectors, numbers, lists)]
            self._index.add_core(stop - start, *pointers)
        self.count = len(codes)

    def search(
        self, codes: NDArray[np.uint8], neighbours: int, probes: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest codes.

        Args:
            codes: uint8 [q, d].
            neighbours: how many of each.
            probes: cells that are looked at. More find more of the nearest, at a cost that grows alike.
            allowed: bool [n], the codes that may be found; all by default.

        Returns:
            Squared distances float32 [q, neighbours], ascending, and numbers of the codes int64; infinity and -1 where
            there are no more.
        """
        faiss = load_faiss()
        options: dict[str, Any] = {"nprobe": min(probes, self._index.nlist)}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        parameters = faiss.SearchParametersIVF(**options)
        distances, numbers = self._index.search(codes.astype(np.float32), neighbours, params=parameters)
        return np.where(numbers >= 0, distances, np.inf).astype(np.float32), numbers
