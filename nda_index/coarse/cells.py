"""The inverted lists of one scale as arrays: cells, their members' codes, and the images that these come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.embedding import Embedding

Census: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]"


@dataclass(frozen=True)
class Segment:
    """Members that were written together. They may lie on disk, mapped to memory.

    Attributes:
        offsets: int64 [C + 1], where each cell's members start.
        codes: uint8 [T, bytes of a member].
        image_ids: int32 [T].
        means, variances: float64 [C, d], of the members' decoded vectors in each cell: so precise that those of several
            segments or shards together do not depend on how the members are divided.
    """

    offsets: NDArray[np.int64]
    codes: NDArray[np.uint8]
    image_ids: NDArray[np.int32]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """The coarse stage of one scale, open for questions.

    Attributes:
        embedding: of its windows.
        stride: every how many pixels a window of a training image was taken.
        centroids: float32 [C, d].
        codebook: how codes become what is added to a centroid: float32 [2, d], offset and step of each coordinate, or
            [256, d] for product quantisation.
        segments: the members.
        census: counts, means and variances of the cells' members, where others lie elsewhere: of all.
    """

    embedding: Embedding
    stride: int
    centroids: NDArray[np.float32]
    codebook: NDArray[np.float32]
    segments: tuple[Segment, ...]
    census: Census | None = None

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Members of each cell, int64 [C]."""
        if self.census is not None:
            return self.census[0]
        return np.asarray(sum(np.diff(segment.offsets) for segment in self.segments), np.int64)

    @cached_property
    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and variances of each cell's members over all segments, float64 [C, d] each."""
        if self.census is not None:
            return self.census[1:]
        return merge_moments(
            [np.diff(segment.offsets) for segment in self.segments],
            [segment.means for segment in self.segments],
            [segment.variances for segment in self.segments],
        )

    def merged(self, segments: Sequence[Segment], renumbered: NDArray[np.int32]) -> Segment:
        """Several segments as one, with new image ids; members whose image has none, -1, are left out."""
        sizes = [np.diff(segment.offsets) for segment in segments]
        places = np.concatenate([np.repeat(np.arange(len(self.centroids)), size) for size in sizes])  # [T]
        image_ids = renumbered[np.concatenate([segment.image_ids for segment in segments])]
        order = np.argsort(places, kind="stable")
        order = order[image_ids[order] >= 0]
        codes = np.concatenate([segment.codes for segment in segments])[order]
        counts = np.bincount(places[order], minlength=len(self.centroids))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Segment(offsets, codes, image_ids[order], *self._moments_of(offsets, codes))

    def _moments_of(
        self, offsets: NDArray[np.int64], codes: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        means, variances = (np.zeros(self.centroids.shape) for _ in range(2))
        for cell in np.flatnonzero(np.diff(offsets)).tolist():
            members = decode(codes[offsets[cell] : offsets[cell + 1]], self.centroids[cell], self.codebook).astype(
                np.float64
            )
            means[cell], variances[cell] = members.mean(axis=0), members.var(axis=0)
        return means, variances


def merge_moments(
    counts: Sequence[NDArray[np.int64]], means: Sequence[NDArray[np.float64]], variances: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and variances of several groups together.

    Example:
        >>> one = np.ones((1, 1))
        >>> mean, variance = merge_moments([np.array([1]), np.array([1])], [one, 3 * one], [0 * one, 0 * one])
        >>> mean.item(), variance.item()
        (2.0, 1.0)
    """
    weights = [count[:, None] / np.maximum(sum(counts), 1)[:, None] for count in counts]  # [C, 1] each
    mean = sum(w * m for w, m in zip(weights, means, strict=True))  # [C, d]
    variance = sum(w * (v + (m - mean) ** 2) for w, m, v in zip(weights, means, variances, strict=True))  # [C, d]
    return np.asarray(mean, np.float64), np.asarray(variance, np.float64)


def merge_census(parts: Sequence[Census]) -> Census:
    """The census of several shards together."""
    counts, means, variances = zip(*parts, strict=True)
    return np.asarray(sum(counts), np.int64), *merge_moments(counts, means, variances)


def decode(
    codes: NDArray[np.uint8], centroids: NDArray[np.float32], codebook: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Vectors of members, float32 [n, d], from their codes [n, bytes] and their cells' centroids [n, d] or [d]."""
    dimensions = codebook.shape[1]
    if len(codebook) == 2:
        return np.asarray(centroids + codebook[0] + codebook[1] * codes, np.float32)  # [n, d]
    part = np.arange(dimensions) // (dimensions // codes.shape[1])  # [d]
    return np.asarray(centroids + codebook[codes[:, part], np.arange(dimensions)], np.float32)  # [n, d]
